from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import espnetv2
from espnetv2.acceleration.gpu import choose
from espnetv2.benchmarking import benchmark as module
from espnetv2.benchmarking import energy, preparation, timing
from espnetv2.benchmarking.backends import BACKENDS, Backend, Subject
from espnetv2.benchmarking.memory import Request
from espnetv2.benchmarking.report import Memory, Report
from espnetv2.errors import UserError
from espnetv2.models.network import Network
from exports import small_segmentation
from helpers import picture

SIZE = (32, 64)
MEMORY = Memory(resident_bytes=3 * 10**8, beyond_loading_bytes=10**7)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and no process for each figure of memory."""
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(timing, "MOST", timing.FEWEST)
    monkeypatch.setattr(preparation, "measure_memory", lambda _: MEMORY)


def backend(answer: Callable[[Subject], Callable[[], object]]) -> Backend:
    return Backend(answer, ("cpu",), lambda _: True)


def test_rows_have_every_figure() -> None:
    stages: list[tuple[str, int, int]] = []
    report = espnetv2.benchmark(
        ["espnetv2_seg_s0_5", "espnetv2_seg_s0_5"],
        against=["espnetv2_s0_5"],
        size=SIZE,
        batch=2,
        backends=["accelerated", "eager"],
        threads=1,
        device="cpu",
        rounds=2,
        progress=lambda *step: stages.append(step),
    )
    assert [(row.network, row.backend) for row in report.rows] == [
        ("espnetv2_seg_s0_5", "accelerated"),
        ("espnetv2_seg_s0_5", "eager"),
        ("espnetv2_s0_5", "accelerated"),
        ("espnetv2_s0_5", "eager"),
    ]
    for row in report.rows:
        assert (row.size, row.batch, row.memory) == ("64x32", 2, MEMORY)
        assert row.latency.calls == 2 * timing.FEWEST
        assert row.images_per_second == pytest.approx(2000 / row.latency.median_ms)
        assert row.checked == "torch's own operators on the CPU"
        assert None not in (row.parameters, row.macs, row.weight_bytes, row.accuracy)
    # The first row of each task is what the others of that task are compared with.
    assert [row.ratio for row in report.rows][::2] == [1, 1]
    assert report.refused == ()
    assert stages[-1] == ("timing", 8, 8)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_backend_that_answers_wrongly_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def wrong(subject: Subject) -> Callable[[], object]:
        assert subject.contender.graph is not None
        graph = subject.contender.graph

        def run() -> object:
            calls.append(1)
            return 1.01 * graph(subject.image)

        return run

    def broken(_: Subject) -> Callable[[], object]:
        raise RuntimeError("segmentation fault,\nnearly")

    monkeypatch.setitem(BACKENDS, "wrong", backend(wrong))
    monkeypatch.setitem(BACKENDS, "broken", backend(broken))
    report = espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["wrong", "broken", "eager"], device="cpu", rounds=1)
    assert [row.backend for row in report.rows] == ["eager"]
    assert [(refusal.network, refusal.backend) for refusal in report.refused] == [
        ("espnetv2_s0_5", "wrong"),
        ("espnetv2_s0_5", "broken"),
    ]
    assert report.refused[0].reason.startswith("wrong output: it differs from the reference by 1.0e-02")
    assert report.refused[1].reason == "it failed (RuntimeError: segmentation fault, nearly)"
    assert len(calls) == timing.WARM_UP


def test_a_backend_that_gives_way_to_another_is_not_timed_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def given_up(subject: Subject) -> Callable[[], object]:
        graph = subject.contender.graph
        assert graph is not None

        def run() -> object:
            logging.getLogger("espnetv2.acceleration.gpu.engine").warning("torch's own operators take over: out of memory")
            return graph(subject.image)

        return run

    monkeypatch.setitem(BACKENDS, "given_up", backend(given_up))
    report = espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["given_up"], device="cpu", rounds=1)
    assert report.rows == ()
    assert report.refused[0].reason == "it did not run as requested: torch's own operators take over: out of memory"


def test_a_way_that_fails_while_another_is_chosen_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def choosing(subject: Subject) -> Callable[[], object]:
        graph = subject.contender.graph
        assert graph is not None

        def run() -> object:
            logging.getLogger(choose.__name__).warning("fused cannot be used here")
            return graph(subject.image)

        return run

    monkeypatch.setitem(BACKENDS, "choosing", backend(choosing))
    report = espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["choosing"], device="cpu", rounds=1)
    assert [row.backend for row in report.rows] == ["choosing"]


def test_what_cannot_be_measured_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    report = espnetv2.benchmark(
        ["espnetv2_s0_5", "espnetv2_s3_0"],
        against=["timm:mobilenetv2_100", "torchvision:alexnet"],
        size=SIZE,
        backends=["eager", "eagr", "streams"],
        device="cpu",
        rounds=1,
    )
    assert [row.network for row in report.rows] == ["espnetv2_s0_5"]
    reasons = {refusal.network or refusal.backend: refusal.reason for refusal in report.refused}
    assert 'did you mean "eager"' in reasons["eagr"]
    assert "streams is for cuda" in reasons["streams"]
    assert "did you mean" in reasons["espnetv2_s3_0"]
    assert "pip install timm" in reasons["timm:mobilenetv2_100"]
    assert reasons["torchvision:alexnet"].startswith("torchvision:alexnet cannot take 64x32: ")


def test_one_name_need_not_be_in_a_list() -> None:
    report = espnetv2.benchmark("espnetv2_s0_5", against="mobilenet_v2", size=SIZE, backends="eager", device="cpu", rounds=1)
    assert [row.network for row in report.rows] == ["espnetv2_s0_5"]
    assert "Those of others need a prefix: timm, torchvision, smp" in report.refused[0].reason


def test_nothing_cannot_be_measured() -> None:
    with pytest.raises(UserError, match="rounds 0 must be at least 1"):
        espnetv2.benchmark("espnetv2_s0_5", rounds=0)
    with pytest.raises(UserError, match="batch 0 must be at least 1"):
        espnetv2.benchmark("espnetv2_s0_5", batch=0)


def test_a_contender_that_no_backend_runs() -> None:
    report = espnetv2.benchmark(["torchvision:mobilenet_v3_small"], size=SIZE, backends=["accelerated"], device="cpu", rounds=1)
    assert report.rows == ()
    assert report.refused[0].reason == "none of the backends accelerated can run it"


def test_memory_that_cannot_be_told_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> Memory:
        raise UserError("no /proc")

    monkeypatch.setattr(preparation, "measure_memory", refuse)
    (row,) = espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["eager"], device="cpu", rounds=1).rows
    assert row.memory is None


def test_energy_is_by_a_counter_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Report:
        return espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["eager"], device="cpu", rounds=1)

    def none(_: torch.device) -> energy.Counter:
        raise energy.EnergyUnavailableError("no counter here")

    monkeypatch.setattr(module, "find_counter", none)
    without = run()
    assert without.energy == "not measured: no counter here"
    assert without.idle_watts is None
    assert without.rows[0].energy is None

    class Counter:
        """Seven joules from each reading to the next."""

        covers = "readings"

        def __init__(self) -> None:
            self.value = 0.0

        def joules(self) -> float:
            self.value += 7
            return self.value

    for constant, value in (("WINDOW_S", 0.02), ("IDLE_S", 0.01), ("SAMPLE_S", 100.0)):
        monkeypatch.setattr(energy, constant, value)
    monkeypatch.setattr(energy, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "find_counter", lambda _: Counter())
    with_counter = run()
    assert with_counter.energy == "readings"
    found = with_counter.rows[0].energy
    assert found is not None
    # A reading at the start of each turn and one at its end.
    assert len(found.samples) == energy.ROUNDS
    images = 7 * energy.ROUNDS / found.joules_per_image
    assert images == pytest.approx(round(images))
    assert with_counter.idle_watts is not None
    assert with_counter.idle_watts <= 7 / 0.01


def test_torch_is_left_as_it_was() -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    espnetv2.benchmark(["espnetv2_s0_5"], size=SIZE, backends=["eager"], device="cpu", rounds=1, threads=2)
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == before


def test_file_backends_are_given_a_file_that_memory_is_measured_with(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def on_file(subject: Subject) -> Callable[[], object]:
        path = subject.exported()
        graph = subject.contender.graph
        assert graph is not None
        assert path.read_bytes() == b"exported"
        return lambda: graph(subject.image).numpy()

    def export(_network: Network, _output: str, _shape: tuple[int, int, int, int], path: Path) -> None:
        path.write_bytes(b"exported")

    def remember(request: object) -> Memory:
        requests.append(request)
        return MEMORY

    monkeypatch.setitem(BACKENDS, "filed", Backend(on_file, ("cpu",), lambda _: True, file=True))
    monkeypatch.setattr("espnetv2.exporting.onnx.convert", export)
    monkeypatch.setattr(preparation, "measure_memory", remember)
    report = espnetv2.benchmark(
        ["espnetv2_s0_5"],
        size=SIZE,
        backends=["filed"],
        device="cpu",
        rounds=1,
    )
    assert [row.backend for row in report.rows] == ["filed"]
    (request,) = requests
    assert isinstance(request, Request)
    assert request.file is not None
    assert request.file.endswith(".onnx")


def test_a_file_in_8_bits_is_compared_with_itself_alone(tmp_path: Path) -> None:
    """ONNX Runtime's kernels for 8 bits differ from its plain ones by more than rounding in 32 bits could explain."""
    network = small_segmentation()
    picture(96, 64).save(tmp_path / "picture.png")
    espnetv2.export(network, tmp_path / "int8.onnx", format="onnx", precision="int8", calibrate=tmp_path)
    report = espnetv2.benchmark([str(tmp_path / "int8.onnx")], backends=["onnxruntime"], device="cpu", rounds=1)
    assert [row.checked for row in report.rows] == [
        "itself only, since every runtime rounds to 8 bits in its own way: the output is finite and the same twice"
    ]
