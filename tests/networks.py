"""Networks with parameters that matter, and their exact answers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import espnetv2
from espnetv2.models.network import Network


def trained_like(name: str, classes: int = 21) -> Network:
    """Random, but with statistics, shifts and slopes that matter."""
    torch.manual_seed(0)
    model = espnetv2.create_model(name, num_classes=classes)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.3)
        if isinstance(layer, nn.PReLU):
            layer.weight.data.uniform_(-0.2, 0.5)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def exactly(model: Network, image: Tensor) -> Tensor:
    """Its logits, computed in double precision."""
    logits: Tensor = copy.deepcopy(model).double()(image.double())
    return logits


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative, of the whole."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def farthest(found: Tensor, wanted: Tensor) -> float:
    """The largest deviation, relative to the largest wanted value."""
    return float((found - wanted).abs().max() / wanted.abs().max())
