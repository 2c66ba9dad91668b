"""A labelled data set: which pictures, which labels, which classes. Nothing is decoded yet, and nothing here needs torch."""

from __future__ import annotations

import hashlib
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

SIZE_TOLERANCE = 0.02


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

    def mask(self, index: int, picture: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """Class of every pixel (H, W), 255 where there is none.

        Args:
            index: which.
            picture: width and height of its picture, which the mask is then seen to cover.

        Raises:
            UserError: the mask is damaged, holds unknown values or is of another size than its picture.
        """
        blob = self.pairs[index][1]
        classes = self.codec.decode(blob.read(), blob.name)
        if picture is not None:
            self.check_size(index, picture, (classes.shape[1], classes.shape[0]))
        return classes

    def check_size(self, index: int, picture: tuple[int, int], mask: tuple[int, int]) -> None:
        """See that a mask is as large as its picture, but for ``mask_scale``; width and height of each.

        Raises:
            UserError: it is not.
        """
        exact = self.mask_scale == 1
        for found, side in zip(mask, picture, strict=True):
            expected = side * self.mask_scale
            # A stated factor rounds to whole pixels in either direction.
            if abs(found - expected) > (0 if exact else max(1.0, SIZE_TOLERANCE * expected)):
                turned = mask == (picture[1], picture[0])
                advice = (
                    "one of them is turned, perhaps by its EXIF orientation, which is applied here: save both upright"
                    if exact and turned
                    else "make them the same size, or state the factor with --mask-scale (to train, --set mask_scale=0.5, say)"
                    if exact
                    else f"by the stated factor it is to be {self.mask_scale * picture[0]:g}x{self.mask_scale * picture[1]:g}"
                )
                raise UserError(
                    f"{self.pairs[index][1].name} is {mask[0]}x{mask[1]} but its picture {picture[0]}x{picture[1]}: {advice}"
                )


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


def fingerprint(*splits: LabelledData) -> str:
    """A number that tells which pictures, by their files' names, splits hold, wherever their folder lies."""
    found = hashlib.sha256()
    for data in splits:
        items = data.pairs if isinstance(data, SegmentationData) else data.items
        found.update("\0".join(Path(picture.name).name for picture, _ in items).encode(errors="surrogateescape"))
        found.update(b"\1")
    return found.hexdigest()[:16]
