from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import espnetv2
from espnetv2.acceleration import compiler
from espnetv2.acceleration.training import accelerate_training
from espnetv2.models.layers import ConvBNAct
from espnetv2.models.network import Network

NAMES = ["espnetv2_s0_5", "espnetv2_s2_0", "espnetv2_seg_s0_5", "espnetv2_seg_s1_5", "espnetv2_seg_psp_s1_0"]


def network(name: str, classes: int = 7) -> Network:
    torch.manual_seed(0)
    made = espnetv2.create_model(name, num_classes=classes).to(memory_format=torch.channels_last)
    for layer in made.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
        if isinstance(layer, nn.PReLU):
            layer.weight.data.uniform_(-0.2, 0.5)
    return made


def gradients(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits = model(images)
    target = torch.arange(logits[:, 0].numel()).reshape(logits[:, 0].shape) % logits.shape[1]
    F.cross_entropy(logits, target).backward()  # type: ignore[no-untyped-call]
    return logits.detach(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", NAMES)
def test_the_step_is_the_plain_one_to_rounding(name: str) -> None:
    # Where rounding moves a value over PReLU's kink, gradients differ by more, torch's own as well: pictures are tried until
    # one is without that.
    distances: list[float] = []
    while len(distances) < 12 and min(distances, default=1.0) >= 2e-4:
        seed = len(distances)
        plain = network(name).train()
        fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
        accelerate_training(fast)
        images = torch.randn(3, 3, 125, 134, generator=torch.Generator().manual_seed(seed))
        found, wanted = gradients(fast, images), gradients(exact, images.double())
        assert float((found[0] - wanted[0]).norm() / wanted[0].norm()) < 1e-4
        whole = sum(float(gradient.norm()) ** 2 for gradient in wanted[1]) ** 0.5
        distances.append(max(float((a - b).norm()) for a, b in zip(found[1], wanted[1], strict=True)) / whole)
    assert max(distances) < 0.03
    assert min(distances) < 2e-4, distances
    for (key, one), other in zip(fast.state_dict().items(), exact.state_dict().values(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_the_answer_and_the_parameters_names_stay(name: str) -> None:
    plain = network(name)
    fast = copy.deepcopy(plain)
    accelerate_training(fast)
    images = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    assert fast.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        exact = copy.deepcopy(plain).double()(images.double())
        ours, torchs = (float((model(images) - exact).abs().max() / exact.abs().max()) for model in (fast, plain))
    assert ours < max(1e-4, 2 * torchs)


def test_frozen_normalisation_stays_and_passes_the_gradient_on() -> None:
    plain = network("espnetv2_seg_s0_5").train()
    for layer in plain.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval().requires_grad_(False)
    fast = copy.deepcopy(plain)
    accelerate_training(fast)
    before = copy.deepcopy(fast.encoder.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    wanted, found = gradients(plain, images), gradients(fast, images)
    assert len(wanted[1]) == len(found[1]) < len(list(fast.parameters()))
    whole = sum(float(gradient.norm()) ** 2 for gradient in wanted[1]) ** 0.5
    assert max(float((a - b).norm()) for a, b in zip(found[1], wanted[1], strict=True)) < 1e-3 * whole
    assert all(torch.equal(value, before[key]) for key, value in fast.encoder.state_dict().items())


def test_what_the_kernels_cannot_take_goes_the_plain_way() -> None:
    plain = network("espnetv2_seg_s0_5").train()
    fast = copy.deepcopy(plain)
    accelerate_training(fast)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(plain.double()(images), fast.double()(images))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast.float()(images.float()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False, padding_mode="reflect"),
        nn.Conv2d(8, 6, 1, padding=1, bias=False),
        ConvBNAct(8, 8, 1),
    ],
)
def test_other_options_go_the_plain_way(layer: nn.Module) -> None:
    """Among them one slope for all channels, of which the kernels would read eight."""
    if isinstance(layer, ConvBNAct):
        layer.act = nn.PReLU()
    plain, x = copy.deepcopy(layer), torch.randn(2, 8, 9, 7)
    accelerate_training(layer)
    assert torch.allclose(layer(x), plain(x), atol=1e-6)
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 4, 9, 7))


def test_it_can_be_traced() -> None:
    """Sizes are tensors then."""
    fast = network("espnetv2_s0_5").eval()
    accelerate_training(fast)
    image = torch.randn(1, 3, 32, 32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(fast, image)  # type: ignore[no-untyped-call]
        assert torch.allclose(traced(image), fast(image), rtol=1e-4, atol=1e-4)


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    fast = network("espnetv2_s0_5").train()
    accelerate_training(fast)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fast(torch.zeros(1, 3, 16, 16))


def test_without_kernels_the_network_stays_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler.kernels.cache_clear()
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    try:
        plain = network("espnetv2_s0_5")
        with pytest.raises(compiler.KernelsUnavailableError):
            accelerate_training(plain)
        assert type(plain.encoder.level1).__name__ == "ConvBNAct"
    finally:
        compiler.kernels.cache_clear()
