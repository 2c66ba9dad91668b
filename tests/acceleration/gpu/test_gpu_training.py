"""The layers that train on a GPU, computed by plain PyTorch where there is none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnetv2.acceleration import operators as cpu
from espnetv2.acceleration import training
from espnetv2.acceleration.compiler import KernelsUnavailableError
from espnetv2.acceleration.gpu import operators, trial
from espnetv2.acceleration.training import accelerate_training
from networks import trained_like


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "usable", lambda *_: False)
    monkeypatch.setattr(operators, "usable", lambda *_: True)
    monkeypatch.setattr(training, "check_training_kernels", lambda _: None)


def step(model: nn.Module, images: Tensor) -> list[Tensor]:
    logits = model(images)
    target = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) % logits.shape[1]
    torch.autograd.backward(F.cross_entropy(logits, target))
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize("name", ["espnetv2_s0_5", "espnetv2_seg_s0_5", "espnetv2_seg_psp_s0_5"])
def test_the_step_is_the_plain_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained_like(name, 5).double().requires_grad_().train()
    for layer in plain.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    fast = copy.deepcopy(plain)
    accelerate_training(fast, "cuda")
    calls: list[int] = []
    run = operators.branches

    def counted(x: Tensor, weight: Tensor, dilations: list[int], stride: int) -> Tensor:
        calls.append(stride)
        out: Tensor = run(x, weight, dilations, stride)
        return out

    monkeypatch.setattr(operators, "branches", counted)
    images = torch.randn(2, 3, 45, 54, dtype=torch.float64)
    for ours, theirs in zip(step(fast, images), step(plain, images), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    for (key, one), other in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12), key
    assert len(calls) == sum(type(module).__name__ in ("_EESP", "_SplitTransformMerge") for module in fast.modules())
    fast.eval(), plain.eval()
    assert torch.allclose(fast(images), plain(images), rtol=1e-7, atol=1e-9)


def test_without_triton_the_network_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "has_triton", lambda: False)
    plain = trained_like("espnetv2_s0_5")
    with pytest.raises(KernelsUnavailableError, match="triton is not installed"):
        accelerate_training(plain, "cuda:0")
    assert type(plain.encoder.level1).__name__ == "ConvBNAct"


def test_wrong_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "has_triton", lambda: True)
    trial.check_training_kernels(torch.device("cpu"))

    def wrong(x: Tensor, *given: Any, **named: Any) -> Tensor:
        out: Tensor = operators.norm_act(x, *given, **named)
        return out * (1.001 if x.dtype == torch.float32 else 1)

    monkeypatch.setattr(trial, "norm_act", wrong)
    with pytest.raises(KernelsUnavailableError, match="wrong results"):
        trial.check_training_kernels(torch.device("cpu"))


def test_failing_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: Tensor, *given: Any) -> Tensor:
        if x.dtype == torch.float64:
            exact: Tensor = operators.norm_act(x, *given)
            return exact
        raise ValueError(f"no kernel for {x.dtype}\nfor a long reason")

    monkeypatch.setattr(trial, "has_triton", lambda: True)
    monkeypatch.setattr(trial, "norm_act", fails)
    with pytest.raises(KernelsUnavailableError, match=r"fail on this GPU \(ValueError: no kernel for torch.float32\)"):
        trial.check_training_kernels(torch.device("cpu"))
