from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from espnetv2.models.cost import multiply_accumulates, parameters, published_parameters
from espnetv2.models.registry import MODELS, Cost, ModelSpec, model_spec
from helpers import PUBLISHED_COSTS


@pytest.mark.parametrize("name", PUBLISHED_COSTS)
def test_costs_are_the_published_ones(name: str) -> None:
    cost = MODELS[name].cost
    expected_parameters, expected_macs = PUBLISHED_COSTS[name]
    assert cost.published_parameters == expected_parameters
    digits = 2 if isinstance(expected_macs, float) else 0
    assert round(cost.macs / 1e6, digits) == expected_macs


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_the_costs_written_down_are_those_counted(spec: ModelSpec) -> None:
    model = spec.build()
    counted = Cost(parameters(model), published_parameters(model), multiply_accumulates(model, *spec.reference_size))
    assert spec.cost == counted


@pytest.mark.parametrize(("scale", "expected"), [("0_5", 80_353), ("1_0", 234_021), ("1_5", 468_373), ("2_0", 789_253)])
def test_counts_with_the_classes_of_voc(scale: str, expected: int) -> None:
    assert published_parameters(model_spec(f"espnetv2_seg_s{scale}").build(21)) == expected


def test_parameters_that_cannot_learn_are_not_owned() -> None:
    model = model_spec("espnetv2_s0_5").build()
    # The last PReLU of four strided units, and a shortcut of two convolutions with BN, the first with PReLU.
    never = (16 + 32 + 64 + 128) + (81 + 6 + 3) + (3 * 256 + 512)
    assert published_parameters(model) - parameters(model) == never


def test_other_convolutions_are_counted_as_torch_counts_them() -> None:
    layers = (
        nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2, bias=False),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2, bias=False),
    )
    for network in (nn.Sequential(layer) for layer in layers):
        image = torch.zeros(1, 8 if isinstance(network[0], nn.ConvTranspose2d) else 3, 16, 16)
        with FlopCounterMode(display=False) as counter:
            network(image)
        shadow = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), network[0]) if image.shape[1] == 8 else network
        beside = 8 * 3 * 16 * 16 if image.shape[1] == 8 else 0
        assert multiply_accumulates(shadow, 16, 16) - beside == counter.get_total_flops() // 2
