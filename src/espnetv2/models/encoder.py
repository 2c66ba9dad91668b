"""Levels 1 to 4, shared by classification and segmentation. Paper, table 1."""

import math
from typing import NamedTuple

from torch import Tensor, nn

from espnetv2.models.eesp import EESP, StridedEESP
from espnetv2.models.layers import ConvBNAct, average_pool


class Widths(NamedTuple):
    """Channels of levels 1 to 5 and of the classifier's last convolution."""

    level1: int
    level2: int
    level3: int
    level4: int
    level5: int
    head: int


def widths(scale: float) -> Widths:
    """Channel counts at width multiplier ``scale`` (the paper's s)."""
    base = math.ceil(int(32 * scale) / 4) * 4
    # The paper's s = 1.75 row (2.87 M parameters) has a head of its own width; the released networks use 1024 or 1280.
    head = 1152 if scale == 1.75 else 1024 if scale <= 1.5 else 1280
    return Widths(min(32, base), base * 2, base * 4, base * 8, base * 16, head)


class Level(nn.Module):
    """One strided EESP followed by EESP units at the new resolution."""

    def __init__(
        self, in_channels: int, out_channels: int, *, units: int, down_field: int, unit_field: int, image_shortcut: bool = True
    ) -> None:
        super().__init__()
        self.down = StridedEESP(in_channels, out_channels, receptive_field=down_field, image_shortcut=image_shortcut)
        self.units = nn.Sequential(*(EESP(out_channels, out_channels, receptive_field=unit_field) for _ in range(units)))

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        out: Tensor = self.units(self.down(x, image))
        return out


class Encoder(nn.Module):
    """ESPNetv2 up to 1/16 of the resolution.

    ``forward`` takes an image (N, 3, H, W) of any size from 1x1 and returns the outputs of levels 1 to 4, at 1/2, 1/4, 1/8
    and 1/16 of the size, each rounded up.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.widths = widths(scale)
        c = self.widths
        self.level1 = ConvBNAct(3, c.level1, 3, stride=2)
        self.level2 = Level(c.level1, c.level2, units=0, down_field=13, unit_field=13)
        self.level3 = Level(c.level2, c.level3, units=3, down_field=11, unit_field=9)
        self.level4 = Level(c.level3, c.level4, units=7, down_field=9, unit_field=7)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter = average_pool(average_pool(image))
        eighth = average_pool(quarter)
        sixteenth = average_pool(eighth)
        level1 = self.level1(image)
        level2 = self.level2(level1, quarter)
        level3 = self.level3(level2, eighth)
        level4 = self.level4(level3, sixteenth)
        return level1, level2, level3, level4
