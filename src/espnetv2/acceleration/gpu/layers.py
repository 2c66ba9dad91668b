"""The network's layers for inference with normalisation folded in, each as one operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from espnetv2.acceleration.blocks import dense_blocks
from espnetv2.acceleration.gpu import operators
from espnetv2.models import layers

_SMALLEST_PRODUCT = 16


class Pointwise(nn.Module):
    """1x1 convolution, normalisation, residual and activation.

    Args:
        conv: 1x1 at stride 1.
        bn: normalisation after it, if any.
        act: activation at the end, if any.
    """

    weight: Tensor
    shift: Tensor
    slope: Tensor | None

    def __init__(self, conv: nn.Conv2d, bn: nn.Module | None, act: nn.Module | None) -> None:
        super().__init__()
        if conv.kernel_size != (1, 1) or conv.stride != (1, 1) or conv.padding != (0, 0):
            raise ValueError(f"no fused form of {conv}")
        weight, shift = _folded(conv, bn)
        blocks = dense_blocks(weight, conv.groups, _SMALLEST_PRODUCT)
        self.register_buffer("weight", blocks.to(conv.weight.dtype))
        self.register_buffer("shift", shift.float())
        self.register_buffer("slope", None if act is None else _slope(act, len(shift)))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        out: Tensor = operators.pointwise(x, self.weight, self.shift, self.slope, residual)
        return out


class Convolve(nn.Module):
    """Grouped 3x3 convolution of few channels, normalisation and activation.

    Args:
        conv: 3x3, padded to keep the size.
        bn: normalisation after it.
        act: activation at the end.
        shuffled: the input lacks the channel shuffle that the convolution expects.
    """

    weight: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, conv: nn.Conv2d, bn: nn.Module, act: nn.Module, *, shuffled: bool = False) -> None:
        super().__init__()
        if conv.kernel_size != (3, 3) or conv.padding != (1, 1) or conv.dilation != (1, 1) or conv.stride[0] != conv.stride[1]:
            raise ValueError(f"no fused form of {conv}")
        weight, shift = _folded(conv, bn)
        self.groups, self.stride, self.shuffled = conv.groups, conv.stride[0], shuffled
        self.register_buffer("weight", weight.float().contiguous())
        self.register_buffer("shift", shift.float())
        self.register_buffer("slope", _slope(act, len(shift)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H/stride), ceil(W/stride))."""
        out: Tensor = operators.convolve(x, self.weight, self.groups, self.stride, self.shift, self.slope, self.shuffled)
        return out


class Middle(nn.Module):
    """Depthwise 3x3 convolutions at several dilations, fused hierarchically, normalised and activated.

    Args:
        branches: the convolutions.
        bn: normalisation of all of them.
        act: their activation.
    """

    weight: Tensor
    scale: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, branches: Sequence[nn.Module], bn: nn.Module, act: nn.Module) -> None:
        super().__init__()
        convolutions = [branch for branch in branches if isinstance(branch, nn.Conv2d)]
        weights = [conv.weight.detach().double() for conv in convolutions]
        self.dilations, self.stride = [conv.dilation[0] for conv in convolutions], convolutions[0].stride[0]
        scale, shift = layers.affine(bn)
        self.register_buffer("weight", torch.stack([weight[:, 0] for weight in weights]).float())
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())
        self.register_buffer("slope", _slope(act, len(shift)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K·C, ceil(H/stride), ceil(W/stride))."""
        out: Tensor = operators.middle(x, self.weight, self.dilations, self.stride, self.scale, self.shift, self.slope)
        return out


def affine(bn: nn.Module, act: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Normalisation and activation in evaluation mode, as scale, shift and slope in float32."""
    scale, shift = layers.affine(bn)
    return scale.float(), shift.float(), _slope(act, len(shift))


@torch.no_grad()
def _folded(conv: nn.Conv2d, bn: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weights and shift of a convolution with its normalisation, in float64."""
    weight = conv.weight.double()
    bias = torch.zeros(len(weight), dtype=torch.float64, device=weight.device) if conv.bias is None else conv.bias.double()
    if not isinstance(bn, nn.BatchNorm2d):
        return weight, bias
    scale, shift = layers.affine(bn)
    return weight * scale[:, None, None, None], bias * scale + shift


@torch.no_grad()
def _slope(act: nn.Module, channels: int) -> Tensor:
    assert isinstance(act, nn.PReLU)
    return act.weight.float().expand(channels).contiguous()
