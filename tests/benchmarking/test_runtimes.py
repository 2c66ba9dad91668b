"""How exported files are read, with stand-ins for the runtimes; real files are run where the exporters are tested."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from espnetv2.benchmarking.runtimes import bound, gpu_run, onnxruntime_run, plain_onnx_run, read_signature
from espnetv2.errors import MissingPackageError, UserError

IMAGE = np.zeros((1, 3, 32, 64), np.float32)


class Session:
    """As ONNX Runtime's: one input of a shape, one output of some rank; the answer is how it was opened."""

    shape: tuple[object, ...] = (1, 3, 32, 64)
    kind = "tensor(float)"
    rank = 3

    def __init__(self, path: str, settings: object = None, providers: object = None) -> None:
        if Path(path).read_bytes() == b"damaged":
            raise RuntimeError("protobuf parsing failed")
        self.settings, self.providers = settings, providers

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="image", shape=list(self.shape), type=self.kind)]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="classes", shape=["n"] * self.rank)]

    def run(self, names: object, inputs: dict[str, object]) -> list[object]:
        assert names is None
        assert list(inputs) == ["image"]
        return [self.settings]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    """The class behind every session of a test."""
    kind = type("Opened", (Session,), {})
    runtime = ModuleType("onnxruntime")
    runtime.__dict__.update(
        InferenceSession=kind,
        SessionOptions=SimpleNamespace,
        GraphOptimizationLevel=SimpleNamespace(ORT_DISABLE_ALL="none"),
        get_available_providers=lambda: ["CPUExecutionProvider"],
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return kind


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"fine")
    return path


def test_a_fixed_file_says_its_size(session: type[Session], file: Path) -> None:
    found = read_signature(file, None, 1)
    assert (found.size, found.task, found.answer) == ((32, 64), "segmentation", "class map")
    session.rank = 4
    assert read_signature(file, (32, 64), 1).answer == "logits"


@pytest.mark.parametrize(("rank", "task", "size"), [(2, "classification", (224, 224)), (4, "segmentation", (512, 1024))])
def test_a_file_for_any_size_is_given_the_usual_one(
    session: type[Session], file: Path, rank: int, task: str, size: tuple[int, int]
) -> None:
    session.shape, session.rank = ("n", 3, "h", "w"), rank
    found = read_signature(file, None, 8)
    assert (found.size, found.task, found.answer) == (size, task, "logits")
    assert read_signature(file, (48, 80), 8).size == (48, 80)


def test_files_that_do_not_fit(session: type[Session], file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fixed to width 64 and cannot take 65"):
        read_signature(file, (32, 65), 1)
    with pytest.raises(UserError, match="fixed to batch 1 and cannot take 2"):
        read_signature(file, None, 2)
    session.kind = "tensor(uint8)"
    with pytest.raises(UserError, match=r"takes tensor\(uint8\) .* float32 images"):
        read_signature(file, None, 1)
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot be read \(RuntimeError\)"):
        read_signature(file, None, 1)
    with pytest.raises(UserError, match="no such file"):
        read_signature(tmp_path / "absent.onnx", None, 1)


@pytest.mark.usefixtures("session")
def test_the_reference_is_run_without_optimisations_and_the_contender_with_its_threads(file: Path) -> None:
    plain, usual = plain_onnx_run(file, IMAGE)(), onnxruntime_run(file, IMAGE, 3)()
    assert isinstance(plain, SimpleNamespace)
    assert isinstance(usual, SimpleNamespace)
    assert plain.graph_optimization_level == "none"
    assert not hasattr(usual, "graph_optimization_level")
    assert usual.intra_op_num_threads == 3


@pytest.mark.usefixtures("session")
def test_a_provider_that_is_not_there(file: Path) -> None:
    with pytest.raises(UserError, match="no TensorrtExecutionProvider: pip install onnxruntime-gpu"):
        gpu_run(file, torch.zeros(1), "TensorrtExecutionProvider")


def test_an_image_is_bound_where_it_lies() -> None:
    calls: list[tuple[object, ...]] = []
    binding = SimpleNamespace(bind_input=lambda *given: calls.append(given), bind_output=lambda *given: calls.append(given))
    session = SimpleNamespace(
        io_binding=lambda: binding,
        get_inputs=lambda: [SimpleNamespace(name="image")],
        get_outputs=lambda: [SimpleNamespace(name="classes")],
    )
    image = torch.zeros(1, 3, 4, 5)
    assert bound(session, image) is binding
    assert calls == [("image", "cpu", 0, np.float32, [1, 3, 4, 5], image.data_ptr()), ("classes", "cpu", 0)]


@pytest.mark.parametrize(("suffix", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_missing_runtime_is_named(suffix: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / f"network{suffix}"
    path.touch()
    with pytest.raises(MissingPackageError, match=package):
        read_signature(path, None, 1)
