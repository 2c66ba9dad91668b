"""The logic around the GPU's ways, with stand-ins that run on the CPU."""

from __future__ import annotations

import copy
import gc
import time
import weakref
from pathlib import Path

import platformdirs
import pytest
import torch
from torch import Tensor

import espnetv2
from espnetv2.acceleration.backends import Backend
from espnetv2.acceleration.gpu import engine
from espnetv2.acceleration.gpu.choose import Function
from espnetv2.acceleration.gpu.engine import Engine
from espnetv2.acceleration.gpu.graphs import SHAPES_KEPT
from espnetv2.errors import UserError
from helpers import Run
from networks import distance, exactly, trained_like


class Graphs:
    """In place of CUDA graphs: counts what is captured, fails where told to."""

    captured = 0
    wrong = False
    fails = False

    def __init__(self, function: Function, held: object = None) -> None:
        del held
        self.function = function

    def __call__(self, image: Tensor) -> Tensor:
        if self.fails:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        type(self).captured += 1
        return self.function(image) + (1 if self.wrong else 0)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Graphs", Graphs)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "none")
    for name, value in (("captured", 0), ("wrong", False), ("fails", False)):
        monkeypatch.setattr(Graphs, name, value)

    def clock(function: Function, image: Tensor) -> float:
        start = time.perf_counter()
        function(image)
        return (time.perf_counter() - start) / (1000 if isinstance(function, Graphs) else 1)

    monkeypatch.setattr(engine, "_seconds", clock)


MODEL = trained_like("espnetv2_s0_5", 6)
IMAGE = torch.randn(1, 3, 32, 40)


def made(backend: Backend) -> Engine:
    return Engine(MODEL, backend, lambda logits: logits, None)


@pytest.mark.parametrize("backend", ["eager", "streams", "graphs", "fused", "auto"])
def test_every_way_gives_the_networks_answer(backend: Backend) -> None:
    run = made(backend)
    for _ in range(4):
        assert distance(run(IMAGE), exactly(MODEL, IMAGE)) < 1e-5
    assert (Graphs.captured > 0) == (backend in ("graphs", "fused", "auto"))


def test_a_shape_is_measured_when_it_comes_the_third_time() -> None:
    run = made("auto")
    choices = Path(platformdirs.user_cache_dir("espnetv2")) / "choices"
    for _ in range(2):
        run(IMAGE)
        run(IMAGE[..., :32])
    assert Graphs.captured == 0
    run(IMAGE)
    assert len(list(choices.iterdir())) == 1
    before = Graphs.captured
    run(IMAGE)
    assert Graphs.captured == before + 1
    run(IMAGE[:, :, :16])
    assert Graphs.captured == before + 1


@pytest.mark.parametrize("backend", ["graphs", "auto"])
def test_out_of_memory_means_a_slower_way(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graphs, "fails", True)
    run = made(backend)
    for _ in range(4):
        assert distance(run(IMAGE), exactly(MODEL, IMAGE)) < 1e-5
    # Measuring drops who fails; who was asked for is missed.
    assert (run.fallback is None) == (backend == "auto")


def test_what_holds_memory_is_let_go_when_there_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("graphs")
    run(IMAGE)
    kept = weakref.ref(run._built["graphs"])
    monkeypatch.setattr(Graphs, "fails", True)
    run(IMAGE)
    assert kept() is None


def test_an_engine_and_what_it_built_go_when_nobody_wants_them() -> None:
    run = made("graphs")
    run(IMAGE)
    kept = weakref.ref(run), weakref.ref(run._built["graphs"])
    gc.disable()
    try:
        del run
        assert [one() for one in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", ["graphs", "auto"])
def test_failing_later_means_a_slower_way(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = made(backend)
    for _ in range(4):
        run(IMAGE)
    monkeypatch.setattr(Graphs, "fails", True)
    assert distance(run(IMAGE), exactly(MODEL, IMAGE)) < 1e-5
    assert "torch's own operators take over for images (1, 3, 32, 40): OutOfMemoryError" in caplog.text
    caplog.clear()
    run(IMAGE)
    assert caplog.text == ""


def test_a_wrong_answer_is_never_given(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Graphs, "wrong", True)
    run = made("graphs")
    for image in (IMAGE, IMAGE[..., :32]):
        assert distance(run(image), exactly(MODEL, image)) < 1e-5
    assert "graphs gives a different output than the plain network" in caplog.text
    assert run.fallback is not None
    assert "graphs gives a different output" in run.fallback


def test_few_shapes_are_remembered() -> None:
    run = made("streams")
    for width in range(1, 50):
        run(torch.zeros(1, 3, 2, width))
    assert len(run._functions) <= SHAPES_KEPT


def test_classes_are_judged_by_how_many_differ() -> None:
    model = trained_like("espnetv2_seg_s0_5", 6)
    run = Engine(model, "fused", lambda logits: logits[:, :4].argmax(1).byte(), 4)
    found = run(IMAGE)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), exactly(model, IMAGE)[:, :4].argmax(1))


def test_mistakes_are_told(run: Run, tmp_path: Path, segmentation_file: Path) -> None:
    with pytest.raises(UserError, match='no backend "graph": did you mean "graphs"'):
        espnetv2.accelerate(MODEL, backend="graph")  # type: ignore[arg-type]
    with pytest.raises(UserError, match='"graphs" is for a GPU, but the network is on "cpu": choose auto or eager'):
        espnetv2.accelerate(MODEL, backend="graphs")
    common = ("predict", "examples/street.jpg", "--model", segmentation_file, "--out", tmp_path / "out", "--device", "cpu")
    for options, reason in (
        (("--backend", "fuse"), 'no backend "fuse": did you mean "fused"?'),
        (("--backend", "streams"), 'the backend "streams" is for a GPU'),
        (("--backend", "streams", "--no-accelerate"), "requires acceleration: leave out backend"),
    ):
        outcome = run(*common, *options)
        assert outcome.code == 2
        assert reason in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_eager_on_a_cpu_is_the_plain_network() -> None:
    plain = espnetv2.accelerate(MODEL, backend="eager")
    assert plain.reason == 'the backend "eager" was requested'
    assert torch.equal(plain(IMAGE), copy.deepcopy(MODEL)(IMAGE))
