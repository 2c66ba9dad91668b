"""Decoder "psp": the paper's first, a spatial pyramid at 1/8 and two light merges. Paper, section 4.2."""

import torch
from torch import Tensor, nn

from espnetv2.models.eesp import EESP
from espnetv2.models.encoder import Widths
from espnetv2.models.layers import BNAct, ConvBNAct, Resize, average_pool, conv2d, spatial_size

STAGES = 4


class PSPModule(nn.Module):
    """Four successive halvings, each with a depthwise 3x3, concatenated with the input, projected: (N, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resize = Resize()
        self.stages = nn.ModuleList(conv2d(channels, channels, 3, groups=channels) for _ in range(STAGES))
        self.project = ConvBNAct((STAGES + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = spatial_size(x)
        outputs, pooled = [x], x
        for stage in self.stages:
            pooled = average_pool(pooled)
            outputs.append(self.resize(stage(pooled), size))
        out: Tensor = self.project(torch.cat(outputs, dim=1))
        return out


class PSPDecoder(nn.Module):
    """``forward(features, size)`` takes the encoder's four levels and the image's (H, W); logits are (N, num_classes, H, W)."""

    def __init__(self, widths: Widths, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.resize = Resize()
        self.project4 = ConvBNAct(widths.level4, widths.level3, 1)
        self.eesp = EESP(2 * widths.level3, widths.level3, receptive_field=7)
        self.psp = PSPModule(widths.level3)
        self.classify3 = nn.Sequential(nn.Dropout2d(dropout), conv2d(widths.level3, num_classes, 1))
        self.norm3 = BNAct(num_classes)
        self.project2 = ConvBNAct(widths.level2 + num_classes, num_classes, 1)
        self.classify1 = nn.Sequential(nn.Dropout2d(dropout), conv2d(widths.level1 + num_classes, num_classes, 1))

    def _coarse(self, level3: Tensor, level4: Tensor) -> Tensor:
        """Logits at 1/8 of the resolution."""
        up = self.resize(self.project4(level4), spatial_size(level3))
        out: Tensor = self.classify3(self.psp(self.eesp(torch.cat([level3, up], dim=1))))
        return out

    def _refine(self, coarse: Tensor, level1: Tensor, level2: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits at full resolution from those at 1/8."""
        out = self.resize(self.norm3(coarse), spatial_size(level2))
        out = self.resize(self.project2(torch.cat([level2, out], dim=1)), spatial_size(level1))
        logits: Tensor = self.resize(self.classify1(torch.cat([level1, out], dim=1)), size)
        return logits

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        level1, level2, level3, level4 = features
        return self._refine(self._coarse(level3, level4), level1, level2, size)

    def forward_with_auxiliary(
        self, features: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """Logits, and the coarse logits enlarged level by level, for the auxiliary loss."""
        level1, level2, level3, level4 = features
        coarse = self._coarse(level3, level4)
        auxiliary = self.resize(self.resize(self.resize(coarse, spatial_size(level2)), spatial_size(level1)), size)
        return self._refine(coarse, level1, level2, size), auxiliary
