"""A labelled data set: which pictures, which labels, which classes. Nothing is decoded yet, and nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.data.masks import MaskCodec
from espnetv2.errors import UserError
from espnetv2.images import read_picture
from espnetv2.labels import Labels


@dataclass(frozen=True)
class Blob:
    """The bytes of one file, or of one member of a tar shard."""

    name: str
    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The content.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read() if self.size is None else file.read(self.size)
        except OSError as error:
            raise UserError(f"{self.name}: cannot be read ({error.strerror})") from error

    def picture(self) -> Image.Image:
        """The content as an 8-bit RGB picture.

        Raises:
            UserError: it is none.
        """
        return read_picture(self.read(), self.name)


def file_blob(path: Path) -> Blob:
    """The whole of a file."""
    return Blob(str(path), path)


@dataclass(frozen=True)
class SegmentationData:
    """Pictures and masks of one split.

    Attributes:
        layout: name of the layout.
        split: name of the split.
        labels: classes and colours.
        pairs: (picture, mask).
        codec: turns a mask file into class indices.
        mask_scale: sides of a mask over those of its picture.
    """

    layout: str
    split: str
    labels: Labels
    pairs: Sequence[tuple[Blob, Blob]]
    codec: MaskCodec
    mask_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.pairs)

    def mask(self, index: int) -> npt.NDArray[np.uint8]:
        """Class of every pixel (H, W), 255 where there is none.

        Raises:
            UserError: the mask is damaged or holds unknown values.
        """
        blob = self.pairs[index][1]
        return self.codec.decode(blob.read(), blob.name)


@dataclass(frozen=True)
class ClassificationData:
    """Pictures of one split and their class.

    Attributes:
        layout: name of the layout.
        split: name of the split.
        labels: classes.
        items: (picture, class index).
    """

    layout: str
    split: str
    labels: Labels
    items: Sequence[tuple[Blob, int]]

    def __len__(self) -> int:
        return len(self.items)


LabelledData = SegmentationData | ClassificationData
