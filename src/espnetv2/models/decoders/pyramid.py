"""Decoder "pyramid": efficient pyramid pooling at every resolution.

Source: the authors' second repository (sacmehta/EdgeNets); 66.2 mIoU on the Cityscapes test server at s = 2.0.
"""

import math

import torch
from torch import Tensor, nn

from espnetv2.models.encoder import Widths
from espnetv2.models.layers import BNAct, ConvBNAct, Resize, adaptive_average_pool, conv2d, spatial_size

SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
PLANES = (64, 48, 32)
BASE_PLANES = 16
SMALLEST_SIDE = 5


def inner_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width at which a stage of ``scale`` convolves, for an input of ``size``."""
    height, width = (max(math.ceil(side * scale), SMALLEST_SIDE) for side in size)
    return height, width


class PyramidStage(nn.Module):
    """A depthwise 3x3 convolution at another scale: resize, convolve, resize back. (N, C, H, W) -> the same."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv = conv2d(channels, channels, 3, groups=channels)
        self.resize = Resize()

    def inner_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at which the convolution runs, for an input of ``size``."""
        return inner_size(size, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor
        if self.scale == 1.0:
            out = self.conv(x)
            return out
        size = spatial_size(x)
        inner = self.inner_size(size)
        if self.scale < 1.0:
            out = self.resize(self.conv(adaptive_average_pool(x, inner)), size)
        else:
            out = adaptive_average_pool(self.conv(self.resize(x, inner)), size)
        return out


class EfficientPyramidPool(nn.Module):
    """Project to few channels, convolve at five scales, merge per projected channel: (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, projected: int, out_channels: int, *, last: bool = False) -> None:
        super().__init__()
        self.project = ConvBNAct(in_channels, projected, 1)
        self.stages = nn.ModuleList(PyramidStage(projected, scale) for scale in SCALES)
        self.norm = BNAct(len(SCALES) * projected)
        self.shuffle = nn.ChannelShuffle(len(SCALES))
        self.merge = ConvBNAct(len(SCALES) * projected, projected, 3, groups=projected)
        self.expand = conv2d(projected, out_channels, 1, bias=last)
        self.out_norm: nn.Module = nn.Identity() if last else BNAct(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.project(x)
        stages = torch.cat([stage(projected) for stage in self.stages], dim=1)
        out: Tensor = self.out_norm(self.expand(self.merge(self.shuffle(self.norm(stages)))))
        return out


class GatedProjection(nn.Module):
    """Encoder features at the decoder's width, each channel weighted by a global gate: (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = ConvBNAct(in_channels, out_channels, 3, groups=math.gcd(in_channels, out_channels))
        self.gate = conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(x) * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return out


class PyramidDecoder(nn.Module):
    """Four pyramid poolings, from 1/16 up to 1/2 of the resolution, each fused with the encoder level of the same size.

    ``forward(features, size)`` takes the encoder's four levels and the image's (H, W); logits are (N, num_classes, H, W).
    """

    def __init__(self, widths: Widths, num_classes: int) -> None:
        super().__init__()
        projected = max(1, min(num_classes // 2, BASE_PLANES))
        p4, p3, p2 = PLANES
        self.resize = Resize()
        self.pool4 = EfficientPyramidPool(widths.level4, projected, p4)
        self.skip3 = GatedProjection(widths.level3, p4)
        self.fuse3 = BNAct(p4)
        self.pool3 = EfficientPyramidPool(p4, projected, p3)
        self.skip2 = GatedProjection(widths.level2, p3)
        self.fuse2 = BNAct(p3)
        self.pool2 = EfficientPyramidPool(p3, projected, p2)
        self.skip1 = GatedProjection(widths.level1, p2)
        self.fuse1 = BNAct(p2)
        self.pool1 = EfficientPyramidPool(p2, projected, num_classes, last=True)

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        level1, level2, level3, level4 = features
        out: Tensor = self.pool4(level4)
        out = self.pool3(self.fuse3(self.skip3(level3) + self.resize(out, spatial_size(level3))))
        out = self.pool2(self.fuse2(self.skip2(level2) + self.resize(out, spatial_size(level2))))
        out = self.pool1(self.fuse1(self.skip1(level1) + self.resize(out, spatial_size(level1))))
        logits: Tensor = self.resize(out, size)
        return logits

    def forward_with_auxiliary(
        self, features: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """This decoder has no auxiliary output."""
        return self.forward(features, size), None
