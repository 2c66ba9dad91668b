"""Efficient pyramid pooling in operations that every runtime has and runs fast.

A stage that enlarges, convolves and averages back is an enlargement and one strided convolution whose kernel combines both;
one that averages, convolves and enlarges needs only a pooling or two matrix products. If a stage's averages have unequal
widths, they are matrix products. The channel shuffle before the merge disappears: each stage is convolved on its own, and the
results are added.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnetv2.exporting.folding import with_weights
from espnetv2.models.decoders.pyramid import SMALLEST_SIDE, PyramidStage
from espnetv2.models.layers import Resize, spatial_size

Size = tuple[int, int]


class FlatPyramidPool(nn.Module):
    """Project, convolve at five scales, add, expand: (N, in, H, W) -> (N, out, H, W).

    Args:
        project: convolution and activation.
        branches: for each scale the stage, its activation and its share of the merging convolution.
        expand: activation and 1x1 convolution of the sum, and what follows.
    """

    def __init__(self, project: nn.Module, branches: list[nn.Sequential], expand: nn.Module) -> None:
        super().__init__()
        self.project = project
        self.branches = nn.ModuleList(branches)
        self.expand = expand

    def forward(self, x: Tensor) -> Tensor:
        projected = self.project(x)
        total: Tensor = self.branches[0](projected)
        for branch in self.branches[1:]:
            total = branch(projected) + total
        out: Tensor = self.expand(total)
        return out


class Enlarged(nn.Module):
    """Enlarge by 2 or 3/2, convolve with a stride that undoes it: (N, C, H, W) -> the same.

    Args:
        conv: the stage's depthwise 3x3 convolution.
        phases: 1 for a factor of 2: averages over 2x2. 2 for 3/2: of every three rows the averages of the first and last two.
    """

    def __init__(self, conv: nn.Conv2d, phases: int) -> None:
        super().__init__()
        self.factor = (2, 1) if phases == 1 else (3, 2)
        kernels = [_averaged(conv.weight, top, left, 3 + phases) for top in range(phases) for left in range(phases)]
        weight = torch.stack(kernels, dim=1).flatten(0, 1)[:, None]
        assert conv.bias is not None
        self.conv = with_weights(conv, weight, conv.bias.repeat_interleave(phases * phases))
        self.conv.stride = (1 + phases, 1 + phases)
        self.resize = Resize()
        self.spread: nn.Module = nn.Identity() if phases == 1 else nn.PixelShuffle(phases)

    def forward(self, x: Tensor) -> Tensor:
        height, width = spatial_size(x)
        up, down = self.factor
        out: Tensor = self.spread(self.conv(self.resize(x, (height * up // down, width * up // down))))
        return out


class Halved(nn.Module):
    """Average over 2x2, convolve, enlarge: (N, C, H, W) -> the same, for even sizes."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.resize = Resize()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resize(self.conv(F.avg_pool2d(x, 2)), spatial_size(x))
        return out


class Matrices(nn.Module):
    """A stage at one input size whose averages have unequal widths; they are products with constant matrices.

    Args:
        stage: the original stage.
        size: height and width of its input.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, stage: PyramidStage, size: Size) -> None:
        super().__init__()
        self.conv = stage.conv
        self.resize = Resize()
        self.size = size
        self.inner = stage.inner_size(size)
        self.enlarges = stage.scale > 1.0
        source, target = (self.inner, size) if self.enlarges else (size, self.inner)
        self.register_buffer("rows", _averages(source[0], target[0]))
        self.register_buffer("columns", _averages(source[1], target[1]).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        if self.enlarges:
            return torch.matmul(torch.matmul(self.rows, self.conv(self.resize(x, self.inner))), self.columns)
        out: Tensor = self.resize(self.conv(torch.matmul(torch.matmul(self.rows, x), self.columns)), self.size)
        return out


class AnySize(nn.Module):
    """A stage at any input size, from sides of 3; the averaging matrices are built from the size in the graph."""

    def __init__(self, stage: PyramidStage) -> None:
        super().__init__()
        self.conv = stage.conv
        self.resize = Resize()
        self.enlarges = stage.scale > 1.0
        self.tenths = round(10 * stage.scale)

    def forward(self, x: Tensor) -> Tensor:
        size = spatial_size(x)
        inner = (self._inner(size[0]), self._inner(size[1]))
        if self.enlarges:
            return _averaged_to(self.conv(self.resize(x, inner)), inner, size)
        out: Tensor = self.resize(self.conv(_averaged_to(x, size, inner)), size)
        return out

    def _inner(self, side: int) -> int:
        inner = (side * self.tenths + 9) // 10
        # The larger of the two, for a symbolic size too.
        larger: Any = torch.sym_max(inner, SMALLEST_SIDE)
        return inner if self.enlarges else larger


def rewritten_stage(stage: PyramidStage, size: Size | None) -> nn.Module:
    """The stage's function in cheaper operations.

    Args:
        stage: with its normalisation folded into the convolution.
        size: height and width of its input, if fixed.
    """
    if stage.scale == 1.0:
        return stage.conv
    inner = stage.inner_size(size) if size is not None else None
    if stage.scale == 2.0 and (size is None or inner == (2 * size[0], 2 * size[1])):
        return Enlarged(stage.conv, 1)
    if size is None:
        return AnySize(stage)
    even = size[0] % 2 == 0 and size[1] % 2 == 0
    if stage.scale == 1.5 and even and inner == (size[0] * 3 // 2, size[1] * 3 // 2):
        return Enlarged(stage.conv, 2)
    if stage.scale == 0.5 and even and inner == (size[0] // 2, size[1] // 2):
        return Halved(stage.conv)
    return Matrices(stage, size)


def _averaged(weight: Tensor, top: int, left: int, extent: int) -> Tensor:
    """A 3x3 kernel (C, 1, 3, 3) followed by the average of the 2x2 results from (top, left) on: (C, extent, extent)."""
    out = torch.zeros(weight.shape[0], extent, extent, dtype=torch.float64)
    for row in (top, top + 1):
        for column in (left, left + 1):
            out[:, row : row + 3, column : column + 3] += weight[:, 0].double() / 4
    return out


def _averages(source: int, target: int) -> Tensor:
    """The matrix (target, source) of adaptive average pooling along one axis."""
    first = torch.arange(target) * source // target
    last = ((torch.arange(target) + 1) * source + target - 1) // target
    place = torch.arange(source)
    inside = (place >= first[:, None]) & (place < last[:, None])
    return inside.float() / (last - first)[:, None].float()


def _averaged_to(x: Tensor, source: Size, target: Size) -> Tensor:
    return torch.matmul(torch.matmul(_averages(source[0], target[0]), x), _averages(source[1], target[1]).T)
