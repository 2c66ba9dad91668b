"""Energy per image and power over time, from the machine's own counter or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

import torch

from espnetv2.benchmarking.report import Energy
from espnetv2.benchmarking.timing import PAUSE_S, Clock, Run, Sleep
from espnetv2.errors import UserError

ROUNDS = 3
WINDOW_S = 3.0
"""Long compared with the counters' update interval, up to a tenth of a second."""
SAMPLE_S = 0.2
IDLE_S = 3.0


class Counter(Protocol):
    """A counter of the energy since some fixed moment."""

    @property
    def covers(self) -> str:
        """What it counts, and what reads it."""
        ...

    def joules(self) -> float:
        """The current reading."""
        ...


class EnergyUnavailableError(UserError):
    """Energy cannot be measured on this machine; the message gives the reason."""


def find_counter(device: torch.device) -> Counter:
    """The counter for ``device``: the GPU board's through NVML, or the processors' through RAPL, both read by Zeus.

    Raises:
        EnergyUnavailableError: there is none, or reading it is not permitted.
    """
    if device.type not in ("cpu", "cuda"):
        raise EnergyUnavailableError(f"no counter is known for {device.type}")
    try:
        zeus = import_module("zeus.device")
    except ImportError as error:
        raise EnergyUnavailableError(
            "reading the counters requires the package zeus, which is not installed: "
            "pip install '.[energy]' in a checkout of espnetv2"
        ) from error
    try:
        return _GpuBoard(zeus.get_gpus(), device.index or 0) if device.type == "cuda" else _Processors(zeus.get_cpus())
    except import_module("zeus.exception").ZeusBaseError as error:
        what = "NVML" if device.type == "cuda" else "RAPL (/sys/class/powercap), which virtual machines mostly hide"
        raise EnergyUnavailableError(f"this machine offers no {what}: {' '.join(str(error).split())}") from error


class _GpuBoard:
    def __init__(self, gpus: Any, index: int) -> None:
        self._gpus, self._index = gpus, index
        self.covers = f"board of GPU {index} (NVML, read by Zeus), excluding the processor"
        self.joules()

    def joules(self) -> float:
        return float(self._gpus.get_total_energy_consumption(self._index)) / 1e3


class _Processors:
    def __init__(self, cpus: Any) -> None:
        self._cpus = cpus
        if not len(cpus):
            raise EnergyUnavailableError("RAPL is present but reports no processor package")
        memory = all(cpus.supports_get_dram_energy_consumption(index) for index in range(len(cpus)))
        self.covers = (
            f"{len(cpus)} processor package(s){' and memory' if memory else ''} (RAPL, read by Zeus), including other processes"
        )
        self.joules()

    def joules(self) -> float:
        readings = [self._cpus.get_total_energy_consumption(index) for index in range(len(self._cpus))]
        return float(sum(reading.cpu_mj + (reading.dram_mj or 0.0) for reading in readings)) / 1e3


@dataclass
class _Account:
    """Energy and time that one contender has used so far."""

    joules: float = 0.0
    seconds: float = 0.0
    images: int = 0
    samples: list[tuple[float, float]] = field(default_factory=list)

    def energy(self) -> Energy:
        return Energy(joules_per_image=self.joules / self.images, watts=self.joules / self.seconds, samples=tuple(self.samples))


def measure_energy(
    runs: Sequence[Run],
    batch: int,
    counter: Counter,
    *,
    clock: Clock = time.perf_counter,
    sleep: Sleep = time.sleep,
    done: Callable[[], None] = lambda: None,
) -> list[Energy]:
    """Energy of every contender: ``ROUNDS`` turns of at least ``WINDOW_S`` seconds without a pause, taken alternately."""
    accounts = [_Account() for _ in runs]
    for number in range(ROUNDS):
        for place in range(len(runs)):
            index = (number + place) % len(runs)
            sleep(PAUSE_S)
            _turn(runs[index], batch, counter, clock, accounts[index])
            done()
    return [account.energy() for account in accounts]


def idle_power(counter: Counter, *, clock: Clock = time.perf_counter, sleep: Sleep = time.sleep) -> float:
    """Power in watts while this process is idle."""
    start, before = clock(), counter.joules()
    sleep(IDLE_S)
    return (counter.joules() - before) / (clock() - start)


def _turn(run: Run, batch: int, counter: Counter, clock: Clock, account: _Account) -> None:
    run()
    start, first = clock(), counter.joules()
    last, before, now, joules = start, first, start, first
    while now - start < WINDOW_S:
        run()
        account.images += batch
        now = clock()
        if now - last >= SAMPLE_S or now - start >= WINDOW_S:
            joules = counter.joules()
            account.samples.append((account.seconds + now - start, (joules - before) / (now - last)))
            last, before = now, joules
    account.joules += joules - first
    account.seconds += now - start
