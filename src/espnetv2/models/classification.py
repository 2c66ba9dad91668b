"""Image classification. Paper, sections 3.3 and 4.1, table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from espnetv2.errors import UserError
from espnetv2.models.encoder import Encoder, Level
from espnetv2.models.layers import ConvBNAct, initialise

if TYPE_CHECKING:
    from espnetv2.info import ModelInfo

DROPOUT = 0.2


class ClassificationModel(nn.Module):
    """ESPNetv2 classifier: float image (N, 3, H, W) of any size from 1x1 -> logits (N, num_classes).

    Args:
        scale: the paper's width multiplier s.
        num_classes: number of outputs, at least 1.

    Raises:
        UserError: ``num_classes`` is below 1.
    """

    info: ModelInfo | None = None
    """Description of the weights, if they are trained."""
    if TYPE_CHECKING:

        def __call__(self, image: Tensor) -> Tensor: ...

    def __init__(self, scale: float, num_classes: int = 1000) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError(f"num_classes must be at least 1, not {num_classes}")
        self.num_classes = num_classes
        self.encoder = Encoder(scale)
        c = self.encoder.widths
        # The authors' level 5 has parameters for an image shortcut that is never used: here it has none.
        self.level5 = Level(c.level4, c.level5, units=3, down_field=7, unit_field=5, image_shortcut=False)
        self.depthwise = ConvBNAct(c.level5, c.level5, 3, groups=c.level5)
        self.expand = ConvBNAct(c.level5, c.head, 1, groups=4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(c.head, num_classes)
        initialise(self)

    def forward_features(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W) -> features before pooling (N, head, ceil(H/32), ceil(W/32))."""
        out: Tensor = self.expand(self.depthwise(self.level5(self.encoder(image)[-1])))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (N, head, h, w) -> logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.dropout(self.pool(features).flatten(1)))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(image))
