"""Vectors of 16 lanes, as processors with AVX-512 have them, on any processor: the compiler splits them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import espnetv2
from espnetv2.acceleration import compiler
from espnetv2.acceleration.training import accelerate_training


@pytest.fixture(autouse=True, params=[8, 16])
def lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    compiler.kernels.cache_clear()
    compiler.vector_lanes.cache_clear()
    monkeypatch.setattr(compiler, "_FLAGS", (*compiler._FLAGS, f"-DLANES={request.param}", "-O1"))
    monkeypatch.setattr(compiler, "cache_folder", lambda: tmp_path / "kernels")
    yield request.param
    compiler.kernels.cache_clear()
    compiler.vector_lanes.cache_clear()


@pytest.mark.parametrize("name", ["espnetv2_s0_5", "espnetv2_s1_25", "espnetv2_seg_s0_5", "espnetv2_seg_s2_0"])
def test_inference(name: str, lanes: int) -> None:
    torch.manual_seed(0)
    model = espnetv2.create_model(name, num_classes=21).eval()
    image = torch.randn(2, 3, 37, 50)
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        wanted = exact(image.double())
    assert compiler.vector_lanes() == lanes
    found = espnetv2.accelerate(model)(image)
    assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert torch.equal(espnetv2.accelerate(model, output="classes")(image).long(), wanted.argmax(1))


def test_training() -> None:
    torch.manual_seed(0)
    plain = espnetv2.create_model("espnetv2_seg_s0_5", num_classes=21).train()
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    accelerate_training(fast)
    image = torch.randn(2, 3, 37, 50)
    target = torch.arange(2 * 37 * 50).reshape(2, 37, 50) % 21
    gradients = []
    for network in (fast, exact):
        dtype = next(network.parameters()).dtype
        torch.autograd.backward(F.cross_entropy(network(image.to(dtype)), target))
        gradients.append([p.grad.double() for p in network.parameters() if p.grad is not None])
    whole = sum(float(gradient.norm()) ** 2 for gradient in gradients[1]) ** 0.5
    assert max(float((a - b).norm()) for a, b in zip(*gradients, strict=True)) < 1e-3 * whole
