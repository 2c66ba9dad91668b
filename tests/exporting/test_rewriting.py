"""The rewritten network is the network, whatever its parameters are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from espnetv2.exporting.rewriting import rewritten
from espnetv2.factory import create_model
from espnetv2.models.network import Network

NAMES = ["espnetv2_s0_5", "espnetv2_seg_s0_5", "espnetv2_seg_psp_s0_5"]


def network(name: str, *, hostile: bool = False) -> Network:
    """A network whose normalisation does something; a hostile one has all that folding could stumble over."""
    torch.manual_seed(0)
    made = create_model(name, num_classes=7).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.2)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            if hostile:
                layer.weight.data[0] = 0.0
                layer.weight.data[1] = -0.7
                layer.weight.data[2] = 1e-14
        if isinstance(layer, nn.PReLU) and hostile:
            layer.weight.data.uniform_(-0.3, 1.4)
            layer.weight.data[1] = 0.0
    return made


def distance(found: nn.Module, wanted: Network, height: int, width: int) -> float:
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = copy.deepcopy(wanted).double()(image.double())
        return float((found(image) - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prelu", [False, True])
@pytest.mark.parametrize("hostile", [False, True])
def test_it_is_the_same_function(name: str, prelu: bool, hostile: bool) -> None:
    wanted = network(name, hostile=hostile)
    for height, width in ((64, 96), (97, 67)):
        for size in (None, (height, width)):
            assert distance(rewritten(wanted, prelu=prelu, size=size), wanted, height, width) < 2e-5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prelu", [False, True])
def test_channels_that_are_switched_off_stay_off(name: str, prelu: bool) -> None:
    wanted = network(name)
    for layer in wanted.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data[:3] = 0.0
    assert distance(rewritten(wanted, prelu=prelu, size=(64, 96)), wanted, 64, 96) < 2e-5


@pytest.mark.parametrize("prelu", [False, True])
def test_at_an_even_scale_it_is_the_same_function(prelu: bool) -> None:
    wanted = network("espnetv2_seg_s0_5", hostile=True)
    assert distance(rewritten(wanted, prelu=prelu, size=(64, 96), even=True), wanted, 64, 96) < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_no_normalisation_and_no_shuffle_is_left(name: str) -> None:
    wanted = network(name)
    kinds = {type(layer) for layer in rewritten(wanted, prelu=False, size=(64, 96)).modules()}
    assert not kinds & {nn.BatchNorm2d, nn.PReLU, nn.ChannelShuffle}
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in wanted.modules())


def test_a_shift_too_large_for_its_scale_is_not_folded() -> None:
    wanted = network("espnetv2_seg_s0_5")
    norm = wanted.encoder.level2.down.eesp.norm.bn
    norm.weight.data[0], norm.bias.data[0] = 1e-7, 3.0
    assert distance(rewritten(wanted, prelu=False, size=(64, 96)), wanted, 64, 96) < 2e-5
