"""What the kernels do not take, the plain network answers."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import espnetv2
from espnetv2.acceleration import compiler
from espnetv2.acceleration.inference import AcceleratedModel
from espnetv2.errors import UserError
from espnetv2.models.network import Network
from networks import farthest, trained_like


@torch.no_grad()
def check_plain(fast: AcceleratedModel, model: Network, image: torch.Tensor) -> None:
    assert torch.equal(fast(image), model(image))


def _head_of_3x3(model: Network) -> None:
    model.get_submodule("decoder.pool1").expand = nn.Conv2d(10, 5, 3, padding=1)


def _bias(model: Network) -> None:
    model.get_submodule("encoder.level1").conv = nn.Conv2d(3, 16, 3, 2, 1)


def _reflection(model: Network) -> None:
    model.get_submodule("encoder.level1.conv").padding_mode = "reflect"  # type: ignore[assignment]


def _hook(model: Network) -> None:
    model.get_submodule("encoder.level3.units.0").register_forward_hook(lambda _, __, found: 2 * found)


def _dropout(model: Network) -> None:
    model.get_submodule("encoder.level3.units").append(nn.Dropout2d())  # type: ignore[operator]


def _sequential_head(model: Network) -> None:
    model.get_submodule("decoder.pool1").expand = nn.Sequential(nn.Conv2d(10, 5, 1), nn.ReLU())


def _rectifier(model: Network) -> None:
    model.get_submodule("encoder.level1").act = nn.ReLU()


@pytest.mark.parametrize("alter", [_head_of_3x3, _bias, _reflection, _hook, _dropout, _sequential_head, _rectifier])
def test_a_changed_network_answers_itself(alter: Callable[[Network], None]) -> None:
    model = trained_like("espnetv2_seg_s0_5")
    alter(model)
    fast, image = espnetv2.accelerate(model.eval()), torch.randn(1, 3, 40, 50)
    assert fast.reason is not None
    assert "the network has been modified since it was created" in fast.reason
    check_plain(fast, model, image)


def test_a_traced_network_is_the_plain_one() -> None:
    model = trained_like("espnetv2_s0_5")
    fast, image, other = espnetv2.accelerate(model), torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(fast, image)  # type: ignore[no-untyped-call]
        assert farthest(traced(other), model(other)) < 1e-5


def test_what_transforms_the_network_sees_its_operators() -> None:
    model = trained_like("espnetv2_s0_5")
    fast, image = espnetv2.accelerate(model), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert farthest(make_fx(fast)(image)(2 * image), model(2 * image)) < 1e-5
        assert farthest(torch.vmap(fast)(image[None])[0], model(image)) < 1e-5
        with FlopCounterMode(display=False) as counter:
            fast(image)
    assert counter.get_total_flops() > 1e6


def test_the_gradient_of_an_image() -> None:
    model = trained_like("espnetv2_s0_5")
    images = [torch.ones(1, 3, 32, 32, requires_grad=True) for _ in range(2)]
    for network, image in zip((espnetv2.accelerate(model), model), images, strict=True):
        torch.autograd.backward(network(image)[0, 3])
    gradients = [image.grad for image in images if image.grad is not None]
    assert torch.equal(*gradients)


def test_what_it_does_not_take_goes_the_plain_way() -> None:
    model = trained_like("espnetv2_seg_s0_5")
    fast = espnetv2.accelerate(model)
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(image), model(image))
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(fast).double()(image.double()), copy.deepcopy(model).double()(image.double()))
    assert fast(torch.zeros(0, 3, 32, 48)).shape == (0, 21, 32, 48)
    with pytest.raises(RuntimeError):
        fast(image.double())
    with pytest.raises(RuntimeError):
        fast(torch.randn(1, 4, 32, 48))


def accelerated(caplog: pytest.LogCaptureFixture, model: Network) -> AcceleratedModel:
    with caplog.at_level(logging.INFO, "espnetv2"):
        return espnetv2.accelerate(model)


def test_the_other_decoder_goes_the_plain_way_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = trained_like("espnetv2_seg_psp_s0_5")
    fast = accelerated(caplog, model)
    assert 'kernels for the decoder "pyramid" only' in caplog.text
    image = torch.randn(1, 3, 32, 48)
    check_plain(fast, model, image)
    with torch.no_grad():
        assert torch.equal(espnetv2.accelerate(model, output="classes")(image), model(image).argmax(1).byte())
    with pytest.raises(UserError, match="there is no plan"):
        fast.plan(32, 48)


def test_half_precision_goes_the_plain_way_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = trained_like("espnetv2_s0_5").to(torch.bfloat16)
    fast = accelerated(caplog, model)
    assert "the model is bfloat16" in caplog.text
    check_plain(fast, model, torch.randn(1, 3, 32, 48, dtype=torch.bfloat16))


def test_without_a_compiler_it_goes_the_plain_way_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler.kernels.cache_clear()
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    try:
        model = trained_like("espnetv2_seg_s0_5")
        fast = accelerated(caplog, model)
        assert "no-such-compiler that CC names is not installed" in caplog.text
        check_plain(fast, model, torch.randn(1, 3, 32, 48))
    finally:
        compiler.kernels.cache_clear()
