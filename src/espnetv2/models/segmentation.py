"""Semantic segmentation: the encoder and one of the two published decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from espnetv2.errors import UserError
from espnetv2.models.decoders.psp import PSPDecoder
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.models.encoder import Encoder
from espnetv2.models.layers import initialise, spatial_size

if TYPE_CHECKING:
    from espnetv2.info import ModelInfo

DecoderName = Literal["pyramid", "psp"]


class SegmentationModel(nn.Module):
    """ESPNetv2 for segmentation: float image (N, 3, H, W) of any size from 1x1 -> logits (N, num_classes, H, W).

    Args:
        scale: the paper's width multiplier s.
        num_classes: number of output channels, at least 1.
        decoder: "pyramid" (efficient pyramid pooling, the authors' better one) or "psp" (the paper's first).

    Raises:
        UserError: ``num_classes`` is below 1, or there is no such decoder.
    """

    info: ModelInfo | None = None
    """Description of the weights, if they are trained."""
    if TYPE_CHECKING:

        def __call__(self, image: Tensor) -> Tensor: ...

    def __init__(self, scale: float, num_classes: int = 20, decoder: DecoderName = "pyramid") -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError(f"num_classes must be at least 1, not {num_classes}")
        self.num_classes = num_classes
        self.encoder = Encoder(scale)
        self.decoder: PyramidDecoder | PSPDecoder
        if decoder == "pyramid":
            self.decoder = PyramidDecoder(self.encoder.widths, num_classes)
        elif decoder == "psp":
            self.decoder = PSPDecoder(self.encoder.widths, num_classes, dropout=0.1 if scale <= 0.5 else 0.2)
        else:
            raise UserError(f'no decoder "{decoder}": choose "pyramid" or "psp"')
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(image), spatial_size(image))
        return logits

    @property
    def class_bias(self) -> Tensor | None:
        """What the last layer adds to the logits (num_classes); None with the decoder "psp", which has no such bias."""
        return self.decoder.pool1.expand.bias if isinstance(self.decoder, PyramidDecoder) else None

    def forward_with_auxiliary(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and those of the auxiliary output for training (None if there is none), both (N, num_classes, H, W)."""
        return self.decoder.forward_with_auxiliary(self.encoder(image), spatial_size(image))
