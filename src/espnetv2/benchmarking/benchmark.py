"""``benchmark``: measure networks side by side, with a method whose figures do not mislead."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from espnetv2.acceleration.gpu.exact import without_tf32
from espnetv2.benchmarking.energy import ROUNDS as ENERGY_ROUNDS
from espnetv2.benchmarking.energy import EnergyUnavailableError, find_counter, idle_power, measure_energy
from espnetv2.benchmarking.machine import describe, watch
from espnetv2.benchmarking.preparation import Conditions, Entry, Lineup, Progress
from espnetv2.benchmarking.report import Energy, Report, Row
from espnetv2.benchmarking.timing import interleaved, ratio, summary
from espnetv2.cores import usable_cores
from espnetv2.device import choose_device
from espnetv2.errors import UserError

ROUNDS = 20


def benchmark(
    models: str | Sequence[str],
    *,
    against: str | Sequence[str] = (),
    size: tuple[int, int] | None = None,
    batch: int = 1,
    backends: str | Sequence[str] = (),
    threads: int | None = None,
    device: str = "auto",
    rounds: int = ROUNDS,
    weights_dir: str | Path | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Measure cost, speed, memory and energy of networks on backends.

    Every network gets the same image, float32 (batch, 3, H, W), and outputs logits (classification) or a class map
    (segmentation). Before anything is timed, its output is compared with that of the network in plain torch. What cannot be
    measured is listed in ``refused``, with the reason; the rest is measured.

    Args:
        models: names, ``model.tag`` or checkpoint files; one, or several. Without a tag, the parameters are random.
        against: other networks: ``timm:NAME``, ``torchvision:NAME``, ``smp:DECODER/ENCODER``, or exported files (.onnx, .xml).
        size: (height, width) of the input. By default 224x224 for classification, 512x1024 for segmentation.
        batch: images per batch.
        backends: names of ``BACKENDS``. By default accelerated, eager, and on a CPU onnxruntime and openvino if they are
            installed, on CUDA compile.
        threads: CPU threads; by default one per usable core.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        rounds: turns of each row.
        weights_dir: folder that is searched first for released weights.
        progress: called with the progress.

    Raises:
        UserError: no such device, a batch or number of rounds below one, or psutil is missing.
    """
    for name, value in (("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    models, against, backends = ([names] if isinstance(names, str) else names for names in (models, against, backends))
    where = choose_device(device)
    cores = threads or usable_cores()
    watch()
    with tempfile.TemporaryDirectory() as folder, _settings(cores):
        released = None if weights_dir is None else str(weights_dir)
        lineup = Lineup(Conditions(where, cores, size, batch, released, Path(folder)))
        lineup.prepare([*models, *against], backends, progress)
        before = watch()
        times = _timed(lineup.entries, rounds, progress)
        machine = describe(where, cores, before.checks(cores) if lineup.entries else ())
        counted, energies, idle = _energies(lineup, progress)
    rows = tuple(
        _row(entry, batch, own, times[_base(lineup.entries, entry)], energy)
        for entry, own, energy in zip(lineup.entries, times, energies, strict=True)
    )
    return Report(
        machine=machine, batch=batch, rounds=rounds, energy=counted, idle_watts=idle, rows=rows, refused=tuple(lineup.refused)
    )


@contextmanager
def _settings(threads: int) -> Iterator[None]:
    """Set the threads, and keep float32 in full precision on a GPU too."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with without_tf32:
            yield
    finally:
        torch.set_num_threads(usual)


def _timed(entries: Sequence[Entry], rounds: int, progress: Progress) -> list[list[list[float]]]:
    done = _Steps("timing", rounds * len(entries), progress)
    with torch.inference_mode():
        return interleaved([entry.run for entry in entries], rounds, done=done)


def _energies(lineup: Lineup, progress: Progress) -> tuple[str, Sequence[Energy | None], float | None]:
    nothing: list[Energy | None] = [None] * len(lineup.entries)
    try:
        counter = find_counter(lineup.conditions.device)
    except EnergyUnavailableError as error:
        return f"not measured: {error}", nothing, None
    if not lineup.entries:
        return counter.covers, nothing, None
    done = _Steps("measuring energy of", ENERGY_ROUNDS * len(lineup.entries), progress)
    idle = idle_power(counter)
    with torch.inference_mode():
        return (
            counter.covers,
            measure_energy([entry.run for entry in lineup.entries], lineup.conditions.batch, counter, done=done),
            idle,
        )


class _Steps:
    """Counts the steps of a stage, and reports them."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self.stage, self.total, self.progress = stage, total, progress
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.progress(self.stage, self.count, self.total)


def _base(entries: Sequence[Entry], entry: Entry) -> int:
    return next(index for index, other in enumerate(entries) if other.contender.task == entry.contender.task)


def _row(entry: Entry, batch: int, times: list[list[float]], base: list[list[float]], energy: Energy | None) -> Row:
    latency = summary(times)
    height, width = entry.contender.size
    return Row(
        network=entry.contender.name,
        backend=entry.backend,
        task=entry.contender.task,
        size=f"{width}x{height}",
        batch=batch,
        answer=entry.contender.answer,
        checked=entry.checked,
        accuracy=entry.contender.accuracy,
        latency=latency,
        images_per_second=1e3 * batch / latency.median_ms,
        ratio=ratio(times, base),
        memory=entry.memory,
        energy=energy,
        **entry.costs,
    )
