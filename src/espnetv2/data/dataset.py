"""A labelled data set: its images, labels and classes. Nothing is decoded in advance, and nothing here needs torch."""

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
    """The bytes of a file, or of a member of a tar shard."""

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
        """The content as an 8-bit RGB image.

        Raises:
            UserError: it is not an image, or cannot be read.
        """
        return read_picture(self.read(), self.name)


def file_blob(path: Path) -> Blob:
    """A whole file."""
    return Blob(str(path), path)


@dataclass(frozen=True)
class SegmentationData:
    """Images and masks of one split.

    Attributes:
        layout: name of the layout.
        split: name of the split.
        labels: classes and colours.
        pairs: (image, mask).
        codec: turns a mask file into class indices.
        mask_scale: size of a mask's sides relative to those of its image.
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
        """Class of every pixel (H, W), 255 for none.

        Args:
            index: of the pair.
            picture: width and height of the image; if given, the mask's size is checked against it.

        Raises:
            UserError: the mask is damaged, contains unknown values or does not have the size of its image.
        """
        blob = self.pairs[index][1]
        classes = self.codec.decode(blob.read(), blob.name)
        if picture is not None:
            self.check_size(index, picture, (classes.shape[1], classes.shape[0]))
        return classes

    def check_size(self, index: int, picture: tuple[int, int], mask: tuple[int, int]) -> None:
        """Check that a mask has the size of its image, up to ``mask_scale``; both sizes are (width, height).

        Raises:
            UserError: it does not.
        """
        exact = self.mask_scale == 1
        for found, side in zip(mask, picture, strict=True):
            expected = side * self.mask_scale
            # With a given scale, sizes may be rounded to whole pixels in either direction.
            if abs(found - expected) > (0 if exact else max(1.0, SIZE_TOLERANCE * expected)):
                turned = mask == (picture[1], picture[0])
                advice = (
                    "one of them is rotated, perhaps by its EXIF orientation, which is applied here: save both upright"
                    if exact and turned
                    else "make them the same size, or give the ratio with --mask-scale (for training: --set mask_scale=0.5)"
                    if exact
                    else f"with this mask scale, it must be {self.mask_scale * picture[0]:g}x{self.mask_scale * picture[1]:g}"
                )
                raise UserError(
                    f"{self.pairs[index][1].name} is {mask[0]}x{mask[1]}, but its image is {picture[0]}x{picture[1]}: {advice}"
                )


@dataclass(frozen=True)
class ClassificationData:
    """Images of one split and their classes.

    Attributes:
        layout: name of the layout.
        split: name of the split.
        labels: classes.
        items: (image, class index).
    """

    layout: str
    split: str
    labels: Labels
    items: Sequence[tuple[Blob, int]]

    def __len__(self) -> int:
        return len(self.items)


LabelledData = SegmentationData | ClassificationData


def spread(count: int, total: int) -> list[int]:
    """At most ``count`` of the indices below ``total``, evenly spread from the first to the last."""
    return sorted({round(index) for index in np.linspace(0, total - 1, min(count, total))})


def fingerprint(*splits: LabelledData) -> str:
    """A hash of the file names of the splits' images, independent of where their folder is."""
    found = hashlib.sha256()
    for data in splits:
        items = data.pairs if isinstance(data, SegmentationData) else data.items
        found.update("\0".join(Path(picture.name).name for picture, _ in items).encode(errors="surrogateescape"))
        found.update(b"\1")
    return found.hexdigest()[:16]
