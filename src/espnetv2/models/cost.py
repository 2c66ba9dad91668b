"""Parameters and multiply-accumulates, counted as the published tables count them."""

import copy
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from espnetv2.models.eesp import ImageShortcut, StridedEESP
from espnetv2.models.network import Network


def parameters(model: nn.Module) -> int:
    """Number of the model's trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def published_parameters(model: Network) -> int:
    """Number of parameters of the authors' network, including some that are never trained.

    Those are the last PReLU inside every strided EESP and level 5's image shortcut.
    """
    total = parameters(model)
    for module in model.modules():
        if isinstance(module, StridedEESP):
            total += module.eesp.expand.bn.num_features
            if module.shortcut is None:
                total += parameters(ImageShortcut(module.act.num_parameters))
    return total


class MultiplyAccumulates(NamedTuple):
    """Multiply-accumulates for one image, by kind of layer."""

    convolutions: int
    """What the published tables count."""
    matrices: int
    """Linear layers and other matrix products, which the tables leave out."""


def multiply_accumulates(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of the convolutions for one image of ``height`` x ``width``; no other layers are counted.

    Two operations make one multiply-accumulate; the addition of a bias, which only the last convolution of the
    "pyramid" decoder has, is one operation. Counted this way, the published tables are reproduced to the last digit. The count
    uses shapes only, on a copy without data.
    """
    return all_multiply_accumulates(model, height, width).convolutions


def all_multiply_accumulates(model: nn.Module, height: int, width: int) -> MultiplyAccumulates:
    """Multiply-accumulates of the convolutions, and of all other matrix products."""
    shadow = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution: _convolution_operations})
    with torch.no_grad(), counter:
        shadow(torch.empty(1, 3, height, width, device="meta"))
    operations = dict(counter.get_flop_counts()["Global"])
    convolutions = int(operations.pop(torch.ops.aten.convolution, 0))
    return MultiplyAccumulates(convolutions // 2, sum(operations.values()) // 2)


def _convolution_operations(
    image: torch.Size,
    weight: torch.Size,
    bias: torch.Size | None,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    *_: object,
    out_shape: torch.Size,
    **__: object,
) -> int:
    additions = math.prod(out_shape) if bias is not None else 0
    return conv_flop_count(list(image), list(weight), list(out_shape), transposed=transposed) + additions
