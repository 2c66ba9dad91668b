"""Convolution, normalisation and activation, in the three combinations that the network uses."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution padded so that only the stride changes the size, to ceil(H/stride), ceil(W/stride)."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=(kernel_size - 1) // 2 * dilation,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


class ConvBN(nn.Module):
    """Convolution and batch normalisation: (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class ConvBNAct(nn.Module):
    """Convolution, batch normalisation and per-channel PReLU: (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class BNAct(nn.Module):
    """Batch normalisation and per-channel PReLU; the shape is unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(x))
        return out


def average_pool(x: Tensor) -> Tensor:
    """Halve the size, rounding up, by 3x3 average pooling; the zero padding counts, as in the published network."""
    return F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)


def adaptive_average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average pooling to a size (height, width), from any size."""
    if x.device.type == "mps":
        # On mps, PyTorch only supports it if one size divides the other.
        return F.adaptive_avg_pool2d(x.cpu(), size).to(x.device)
    return F.adaptive_avg_pool2d(x, size)


class Resize(nn.Module):
    """Bilinear interpolation to a size (height, width) with aligned corners, as in the published network."""

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Height and width of an (N, C, H, W) tensor."""
    return x.shape[-2], x.shape[-1]


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Published initialisation: Kaiming-normal convolutions (fan-out), N(0, 0.001) linear layers, identity normalisation."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)


class Affine(NamedTuple):
    """``scale * x + shift`` per channel, float64 (C,)."""

    scale: Tensor
    shift: Tensor


@torch.no_grad()
def affine(norm: nn.Module) -> Affine:
    """Batch normalisation in evaluation mode as scale and shift; in float64, so that folding it rounds only once."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return Affine(scale, norm.bias.double() - norm.running_mean.double() * scale)
