from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from espnetv2.benchmarking.agreement import as_array, check_answer
from espnetv2.benchmarking.backends import BACKENDS, Subject, find_backend
from espnetv2.benchmarking.contenders import Graph, find_contender, random_image, settled
from espnetv2.errors import UserError
from espnetv2.models.network import Network

CPU = torch.device("cpu")


def subject(name: str, folder: Path, size: tuple[int, int] = (48, 80), batch: int = 2) -> Subject:
    return Subject(settled(find_contender(name, size)), random_image(batch, size), 1, folder)


@pytest.mark.parametrize("name", ["espnetv2_s0_5", "espnetv2_seg_s0_5"])
@pytest.mark.parametrize("backend", ["eager", "channels_last", "accelerated"])
def test_backends_give_the_networks_answer(name: str, backend: str, tmp_path: Path) -> None:
    given = subject(name, tmp_path)
    assert given.contender.graph is not None
    with torch.inference_mode():
        wanted = given.contender.graph(given.image).numpy()
        run = find_backend(backend, CPU).make(given)
        check_answer(as_array(run()), wanted)
        check_answer(as_array(run()), wanted)


def test_compile_compiles_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject("espnetv2_s0_5", tmp_path)
    compiled = []

    def remember(graph: Graph, *, fullgraph: bool) -> Graph:
        assert fullgraph
        compiled.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", remember)
    BACKENDS["compile"].make(given)()
    assert len(compiled) == 1
    assert compiled[0] is not given.contender.graph


def test_a_network_that_the_kernels_do_not_run_is_not_timed_under_their_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='kernels for the decoder "pyramid" only'):
        BACKENDS["accelerated"].make(subject("espnetv2_seg_psp_s0_5", tmp_path))


@pytest.mark.parametrize("name", ["streams", "graphs", "fused", "tensorrt"])
def test_backends_of_a_gpu_say_so(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is for cuda, but the device is cpu"):
        find_backend(name, CPU)


def test_unknown_backend_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match='no backend "onnx": did you mean "onnxruntime"'):
        find_backend("onnx", CPU)


def test_who_can_be_run_by_what(tmp_path: Path) -> None:
    own = find_contender("espnetv2_s0_5")
    rival = find_contender("torchvision:mobilenet_v3_small")
    onnx = dataclasses.replace(own, graph=None, file=tmp_path / "a.onnx")
    openvino = dataclasses.replace(own, graph=None, file=tmp_path / "a.xml")
    takers = {
        name: [backend for backend in ("eager", "accelerated", "onnxruntime", "openvino") if BACKENDS[backend].takes(contender)]
        for name, contender in {"own": own, "rival": rival, "onnx": onnx, "openvino": openvino}.items()
    }
    assert takers == {
        "own": ["eager", "accelerated", "onnxruntime", "openvino"],
        "rival": ["eager", "onnxruntime", "openvino"],
        "onnx": ["onnxruntime", "openvino"],
        "openvino": ["openvino"],
    }


def test_own_networks_are_exported_once_as_for_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def convert(network: Network, output: str, shape: tuple[int, int, int, int], path: Path) -> None:
        calls.append((type(network).__name__, output, shape, network.training))
        path.write_bytes(b"onnx")

    monkeypatch.setattr("espnetv2.exporting.onnx.convert", convert)
    given = subject("espnetv2_seg_s0_5", tmp_path)
    assert given.exported() == given.exported()
    assert given.exported().read_bytes() == b"onnx"
    assert calls == [("SegmentationModel", "classes", (2, 3, 48, 80), False)]


def test_runs_do_not_change_the_contender(tmp_path: Path) -> None:
    given = subject("espnetv2_s0_5", tmp_path)
    assert given.contender.graph is not None
    before = {name: value.clone() for name, value in given.contender.graph.state_dict().items()}
    for backend in ("eager", "channels_last", "accelerated"):
        BACKENDS[backend].make(given)()
    for name, value in given.contender.graph.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()
