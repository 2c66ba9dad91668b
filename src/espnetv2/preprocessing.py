"""From image to network input: the single definition used by training, evaluation, prediction and exported files.

Nothing here needs torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from espnetv2.errors import UserError

Triple = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=65_536)]
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """How an image becomes the network's input; calling it performs the conversion.

    Values (0 to 1) become ``(value - mean) / std``, channel by channel in the network's channel order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: Side
    """Height of the network's input, in pixels."""
    width: Side
    """Width of the network's input, in pixels."""
    fit: Literal["stretch", "crop"] = "stretch"
    """``stretch`` scales both sides independently; ``crop`` keeps the aspect ratio and takes the centre."""
    crop_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With ``crop``: the share of the scaled image's shorter side that is kept."""
    shrink_to: tuple[Side, Side] | None = None
    """Height and width to which longer sides of an image are shrunk before anything else.

    Set if the training images were coarser than the input: such a network is more accurate on equally coarse images.
    """
    channels: Literal["RGB", "BGR"] = "RGB"
    """Order of the network's input channels, and of ``mean`` and ``std``."""
    mean: Triple = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD

    def differing_values(self, other: Preprocessing) -> list[str]:
        """Which of ``channels``, ``mean`` and ``std`` differ from ``other``, and so change the values of a pixel."""
        return [name for name in ("channels", "mean", "std") if getattr(self, name) != getattr(other, name)]

    def resized(self, height: int, width: int) -> Preprocessing:
        """The same preprocessing for another input size."""
        return self.model_copy(update={"height": height, "width": width})

    def shrink(self, picture: Image.Image) -> Image.Image:
        """The image made as coarse as the training images, if that is known to matter."""
        if self.shrink_to is None:
            return picture
        height, width = self.shrink_to
        size = (min(width, picture.width), min(height, picture.height))
        return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)

    def fit_picture(self, picture: Image.Image) -> Image.Image:
        """The image at the network's input size, still 8-bit RGB."""
        picture = self.shrink(picture)
        size = (self.width, self.height)
        if self.fit == "stretch":
            return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
        return picture.resize(size, Image.Resampling.BILINEAR, box=self._centre(picture.size))

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """8-bit RGB pixels (H, W, 3) -> network input (3, H, W)."""
        if self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        # One multiplication and one addition per value, in the memory order of the result.
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        planes *= scale[:, None, None]
        planes += shift[:, None, None]
        return planes

    def __call__(self, picture: Image.Image) -> npt.NDArray[np.float32]:
        """Upright RGB image of any size -> network input (3, height, width).

        Raises:
            UserError: the image is in another mode, such as RGBA.
        """
        if picture.mode != "RGB":
            raise UserError(
                f"the image has the mode {picture.mode}, not RGB: convert it, or read it with espnetv2.images.read_picture"
            )
        return self.normalise(np.asarray(self.fit_picture(picture)))

    def _centre(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of an image of ``size`` (width, height) that becomes the input: left, upper, right, lower."""
        shorter = round(min(self.height, self.width) / self.crop_ratio)
        scale = shorter / min(size)
        # If the input is not square, the image may have to be larger than its shorter side requires.
        scale = max(scale, self.width / size[0], self.height / size[1])
        half_width, half_height = self.width / scale / 2, self.height / scale / 2
        x, y = size[0] / 2, size[1] / 2
        return max(0.0, x - half_width), max(0.0, y - half_height), min(size[0], x + half_width), min(size[1], y + half_height)


def check_size(size: tuple[int, int], smallest: int = 1, largest: int = 65_536) -> None:
    """Check that a size is valid.

    Raises:
        UserError: it is not (height, width), two whole numbers within these bounds.
    """
    fits = isinstance(size, tuple | list) and len(size) == 2
    if not fits or not all(isinstance(side, int) and smallest <= side <= largest for side in size):
        shown = f"{size[1]}x{size[0]}" if fits else repr(size)
        raise UserError(f"invalid size {shown}: height and width must be whole numbers (int) from {smallest} to {largest}")


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT``, as usually written -> (height, width).

    Raises:
        UserError: it is not two whole numbers from 1 to 65536.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 0 < int(part) <= 65_536 for part in parts):
        raise UserError(f'"{text}" is not a size: write WIDTHxHEIGHT in pixels, each from 1 to 65536, such as 1024x512')
    return int(parts[1]), int(parts[0])
