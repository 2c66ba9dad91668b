"""Parameters and multiply-accumulates, counted as the published tables count them."""

import copy
import math

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from espnetv2.models.eesp import ImageShortcut, StridedEESP
from espnetv2.models.network import Network


def parameters(model: nn.Module) -> int:
    """Number of trainable parameters that the model owns."""
    return sum(parameter.numel() for parameter in model.parameters())


def published_parameters(model: Network) -> int:
    """Number of parameters of the authors' network, which also owns some that can never learn.

    Those are the last PReLU inside every strided EESP and level 5's image shortcut.
    """
    total = parameters(model)
    for module in model.modules():
        if isinstance(module, StridedEESP):
            total += module.eesp.expand.bn.num_features
            if module.shortcut is None:
                total += parameters(ImageShortcut(module.act.num_parameters))
    return total


def multiply_accumulates(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of the convolutions for one image of ``height`` x ``width``; no other layer is counted.

    Two operations make one multiply-accumulate; the addition of a bias, which only the last convolution of the
    "pyramid" decoder has, is one operation. So counted, the published tables come out to the last digit. The count runs
    on shapes alone, on a copy without data.
    """
    operations = _operations(model, height, width)
    return operations.get(torch.ops.aten.convolution, 0) // 2


def matrix_multiply_accumulates(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of the linear layers and other matrix products for one image, which no published table counts."""
    operations = _operations(model, height, width)
    return sum(count for kind, count in operations.items() if kind != torch.ops.aten.convolution) // 2


def _operations(model: nn.Module, height: int, width: int) -> dict[object, int]:
    shadow = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution: _convolution_operations})
    with torch.no_grad(), counter:
        shadow(torch.empty(1, 3, height, width, device="meta"))
    return dict(counter.get_flop_counts()["Global"])


def _convolution_operations(
    image: torch.Size, weight: torch.Size, bias: torch.Size | None, *_: object, out_shape: torch.Size, **__: object
) -> int:
    additions = math.prod(out_shape) if bias is not None else 0
    return conv_flop_count(list(image), list(weight), list(out_shape)) + additions
