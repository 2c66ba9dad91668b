"""The paper's building block: Extremely Efficient Spatial Pyramid of depthwise dilated convolutions.

Source: S. Mehta et al., "ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network",
CVPR 2019, section 3.2 and figures 1 and 2.
"""

import torch
from torch import Tensor, nn

from espnetv2.errors import UserError
from espnetv2.models.layers import BNAct, ConvBN, ConvBNAct, average_pool, conv2d

BRANCHES = 4


def branch_dilations(receptive_field: int) -> tuple[int, ...]:
    """Dilation of each branch, ascending.

    Branch i of the pyramid spans 3 + 2i pixels; one that would span more than ``receptive_field`` falls back to 3.
    """
    extents = [3 + 2 * i for i in range(BRANCHES)]
    allowed = sorted(extent if extent <= receptive_field else 3 for extent in extents)
    return tuple((extent - 1) // 2 for extent in allowed)


class SplitTransformMerge(nn.Module):
    """Reduce, transform at four dilation rates, fuse hierarchically, expand: (N, in, H, W) -> (N, out, H/stride, W/stride).

    The result has neither residual nor final activation. Adding each branch to the next (hierarchical feature fusion)
    removes the gridding artefacts of dilated convolutions.

    Raises:
        UserError: ``in_channels`` is not a multiple of 4, or ``out_channels`` not of 16: four branches of four groups.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, receptive_field: int) -> None:
        super().__init__()
        if in_channels % BRANCHES or out_channels % BRANCHES**2:
            raise UserError(
                f"an EESP unit needs a multiple of {BRANCHES} input and of {BRANCHES**2} output channels, "
                f"not {in_channels} -> {out_channels}"
            )
        width = out_channels // BRANCHES
        self.reduce = ConvBNAct(in_channels, width, 1, groups=BRANCHES)
        self.branches = nn.ModuleList(
            conv2d(width, width, 3, stride=stride, dilation=dilation, groups=width)
            for dilation in branch_dilations(receptive_field)
        )
        self.norm = BNAct(out_channels)
        self.expand = ConvBN(out_channels, out_channels, 1, groups=BRANCHES)

    def transform(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        fused: list[Tensor] = [self.branches[0](reduced)]
        for branch in self.branches[1:]:
            fused.append(branch(reduced) + fused[-1])
        out: Tensor = self.expand(self.norm(torch.cat(fused, dim=1)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)


class EESP(SplitTransformMerge):
    """EESP unit at stride 1, with a residual if the channel counts agree: (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, *, receptive_field: int) -> None:
        super().__init__(in_channels, out_channels, stride=1, receptive_field=receptive_field)
        self.residual = in_channels == out_channels
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.transform(x)
        if self.residual:
            out = out + x
        activated: Tensor = self.act(out)
        return activated


class ImageShortcut(nn.Module):
    """Long-range shortcut from the average-pooled image: (N, 3, h, w) -> (N, out, h, w). Paper, section 3.3."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.mix = ConvBNAct(3, 3, 3)
        self.project = ConvBN(3, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.project(self.mix(image))
        return out


class StridedEESP(nn.Module):
    """Halve the resolution and widen: average pooling in parallel with a strided EESP, plus the shortcut to the image.

    ``forward(x, image)`` takes x (N, in, H, W) and, if ``image_shortcut`` is set, the image already pooled to the output's
    size (N, 3, ceil(H/2), ceil(W/2)); it returns (N, out, ceil(H/2), ceil(W/2)).
    """

    def __init__(self, in_channels: int, out_channels: int, *, receptive_field: int, image_shortcut: bool) -> None:
        super().__init__()
        self.eesp = SplitTransformMerge(in_channels, out_channels - in_channels, stride=2, receptive_field=receptive_field)
        self.shortcut = ImageShortcut(out_channels) if image_shortcut else None
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        out = torch.cat([average_pool(x), self.eesp(x)], dim=1)
        if self.shortcut is not None:
            out = out + self.shortcut(image)
        activated: Tensor = self.act(out)
        return activated
