"""Normalisation and activation folded into the convolutions around them, exactly.

An activation is a line with one bend: ``above * y`` where y is positive, ``below * y`` elsewhere. Any scale of such a line
moves into the convolution before or after it; what remains is one cheap elementwise operation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Beyond this ratio of shift to scale, folding the shift before the scale would lose digits.
LARGEST_SHIFT = 1e3
DEAD = 1e-12


def scaled(conv: nn.Conv2d, scale: Tensor, shift: Tensor | None = None) -> nn.Conv2d:
    """The convolution followed by ``scale * y + shift`` per output channel, as one."""
    bias = torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    bias = bias * scale + (0.0 if shift is None else shift)
    return with_weights(conv, conv.weight.detach().double() * scale[:, None, None, None], bias)


def after_scaling(conv: nn.Conv2d, scale: Tensor, constant: Tensor | None = None) -> nn.Conv2d:
    """The 1x1 convolution preceded by ``scale * x + constant`` per input channel, as one.

    For larger kernels only ``scale`` is possible, since padding would see the constant.
    """
    per_group = scale.reshape(conv.groups, 1, -1).expand(-1, conv.out_channels // conv.groups, -1).flatten(0, 1)
    weight = conv.weight.detach().double()
    bias = torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    if constant is not None:
        seen = constant.reshape(conv.groups, 1, -1).expand(-1, conv.out_channels // conv.groups, -1).flatten(0, 1)
        bias = bias + (weight[:, :, 0, 0] * seen).sum(1)
    return with_weights(conv, weight * per_group[:, :, None, None], bias)


def with_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same kind with these parameters."""
    made = nn.Conv2d(
        weight.shape[1] * conv.groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=(int(conv.padding[0]), int(conv.padding[1])),
        dilation=(conv.dilation[0], conv.dilation[1]),
        groups=conv.groups,
    )
    with torch.no_grad():
        made.weight.copy_(weight)
        assert made.bias is not None
        made.bias.copy_(bias)
    return made.requires_grad_(False)


class Bend(nn.Module):
    """``max(first * x, second * x)`` per channel, or a PReLU if the runtime has a fast one; the shape is unchanged.

    Args:
        first, second: (C,); ``first`` None stands for 1.
        prelu: use PReLU, which requires ``first`` None.
    """

    first: Tensor | None
    second: Tensor

    def __init__(self, first: Tensor | None, second: Tensor, *, prelu: bool) -> None:
        super().__init__()
        self.prelu = prelu
        self.register_buffer("first", None if first is None else per_channel(first))
        self.register_buffer("second", second.detach().float() if prelu else per_channel(second))

    def forward(self, x: Tensor) -> Tensor:
        if self.prelu:
            return F.prelu(x, self.second)
        return torch.maximum(x if self.first is None else x * self.first, x * self.second)


class Broken(nn.Module):
    """``below * x + (above - below) * relu(x)`` per channel, for what no maximum can express; the shape is unchanged."""

    below: Tensor
    more: Tensor

    def __init__(self, above: Tensor, below: Tensor) -> None:
        super().__init__()
        self.register_buffer("below", per_channel(below))
        self.register_buffer("more", per_channel(above - below))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.below + torch.relu(x) * self.more


class Scaling(nn.Module):
    """``scale * x + shift`` per channel; the shape is unchanged."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", per_channel(scale))
        self.register_buffer("shift", per_channel(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Shift(nn.Module):
    """``x + shift`` per channel; the shape is unchanged."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", per_channel(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def per_channel(values: Tensor) -> Tensor:
    """(C,) -> float32 (1, C, 1, 1)."""
    return values.detach().float().reshape(1, -1, 1, 1)


class Bent(NamedTuple):
    """How a PReLU is computed around a convolution, per channel, float64 (C,).

    ``y * before`` goes in, ``max(x, slope * x)`` or PReLU comes out, and ``after`` (1 or -1) remains for what follows.
    """

    before: Tensor
    slope: Tensor
    after: Tensor


def bent(slope: Tensor, *, prelu: bool) -> Bent:
    """The form that a runtime computes fast, of a PReLU with this slope on the negative side."""
    one = torch.ones_like(slope)
    if prelu:
        return Bent(one, slope, one)
    # A maximum bends upwards; a line that is steeper below bends downwards, and is the negative of one that bends upwards.
    steep = slope > 1
    return Bent(torch.where(steep, -slope, one), torch.where(steep, 1 / slope, slope), torch.where(steep, -one, one))


def activation(slope: Tensor, *, prelu: bool) -> nn.Module:
    """A PReLU on its own, or one out of which no sign can be moved."""
    slope = slope.detach().double()
    if prelu or bool((slope <= 1).all()):
        return Bend(None, slope, prelu=prelu)
    return Broken(torch.ones_like(slope), slope)
