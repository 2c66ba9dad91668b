"""Decode images to upright 8-bit RGB. Nothing here needs torch."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from espnetv2.errors import UserError

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""Those of ``IMAGE_SUFFIXES``. Pillow would try all of its decoders on any content, and for PostScript start Ghostscript."""
LARGEST_PIXELS = 500_000_000
DAMAGED = "the image is damaged or truncated"
UNKNOWN = "not an image that can be decoded: convert it to PNG or JPEG"
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose operation that undoes each EXIF orientation."""
_WIDE = {"I;16", "I;16B", "I;16L", "I;16N"}
_16_BIT_AS_32 = {"PNG", "PPM"}
"""Formats without 32-bit pixels, whose 16-bit ones Pillow may decode to 32 bits."""
_pillow_limit = threading.Lock()


class UndefinedRangeError(ValueError):
    """Pixels whose type does not say which values are black and white."""


def read_picture(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Decode a file, or its bytes, to an upright 8-bit RGB image.

    16-bit greyscale is scaled, transparency composited over white, CMYK and palettes converted, the EXIF orientation applied;
    the first frame of an animation is used.

    Args:
        source: path, or content.
        name: its name in error messages, if the source has no path.

    Raises:
        UserError: it is empty, damaged, truncated, not an image, has pixels of 32 bits, or more than 500 million of them.
    """
    return read_turned_picture(source, name)[0]


def read_turned_picture(source: str | Path | bytes, name: str | None = None) -> tuple[Image.Image, Image.Transpose | None]:
    """``read_picture``, and how the EXIF orientation rotated or flipped the image (None: not at all)."""
    label = name or (str(source) if not isinstance(source, bytes) else "the data")
    if isinstance(source, bytes):
        content = source
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise UserError(f"{label}: cannot be read ({error.strerror})") from error
    if not content:
        raise UserError(f"{label}: the file is empty")
    with decoding(label), open_picture(content) as picture:
        turned, turn = upright(picture)
        return _converted(turned, picture.format), turn


@contextmanager
def decoding(name: str, *, damaged: str = DAMAGED, unknown: str = UNKNOWN) -> Iterator[None]:
    """Turn whatever fails while an image is decoded into a clear message: a damaged file can break the decoder anywhere.

    Args:
        name: of the image, in the message.
        damaged: what the message says of a damaged one.
        unknown: what it says of something else than an image.
    """
    try:
        yield
    except UnidentifiedImageError as error:
        raise UserError(f"{name}: {unknown}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: more than {LARGEST_PIXELS // 10**6} million pixels: split it into tiles") from error
    except UndefinedRangeError as error:
        raise UserError(f"{name}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{name}: not enough memory to decode it: split it into tiles") from error
    except Exception as error:
        raise UserError(f"{name}: {damaged} ({error})") from error


def as_rgb(picture: Image.Image) -> Image.Image:
    """Any image as an upright 8-bit RGB copy.

    Raises:
        UndefinedRangeError: the pixels are 32-bit integers or floating-point.
    """
    return _converted(upright(picture)[0], picture.format)


def _converted(picture: Image.Image, source_format: str | None) -> Image.Image:
    if picture.mode == "F" or (picture.mode == "I" and source_format not in _16_BIT_AS_32):
        kind = "floating-point" if picture.mode == "F" else "signed or 32-bit integer"
        raise UndefinedRangeError(f"{kind} pixels have no defined range: scale them and save the image with 8 or 16 bits")
    if picture.mode in ("I", *_WIDE):
        # Pillow would clip these at 255 on conversion.
        return Image.fromarray(_narrow(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def upright(picture: Image.Image) -> tuple[Image.Image, Image.Transpose | None]:
    """A copy, rotated or flipped by the EXIF orientation if it can be read, and how (None: not at all)."""
    # Pillow turns TIFF images itself when it decodes them, and then says no more that they are turned.
    picture.load()
    # Pillow's own exif_transpose also rewrites the EXIF data, which fails for invalid entries of some cameras.
    how = None
    with suppress(Exception):
        how = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    return (picture.copy() if how is None else picture.transpose(how)), how


def picture_from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """An image from pixels: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, 8 or 16 bits.

    Raises:
        UserError: the shape or type is a different one.
    """
    squeezed = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    shape_fits = squeezed.ndim == 2 or (squeezed.ndim == 3 and squeezed.shape[2] in (3, 4))
    if not shape_fits or squeezed.dtype not in (np.uint8, np.uint16) or squeezed.size == 0:
        raise UserError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image: "
            "give (height, width, 3) with RGB values of type uint8"
        )
    pixels = _narrow(squeezed) if squeezed.dtype == np.uint16 else squeezed.astype(np.uint8)
    return as_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _narrow(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """16-bit values -> 8-bit ones."""
    wide = np.clip(values.astype(np.int64), 0, 65_535)
    return ((wide + 128) // 257).astype(np.uint8)


def open_picture(source: bytes | Path) -> Image.Image:
    """Open a file, or its bytes, with this project's limit on the number of pixels instead of Pillow's, which is a global.

    Raises:
        PIL.UnidentifiedImageError: it is not an image.
        PIL.Image.DecompressionBombError: it has more than 500 million pixels.
    """
    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
            pixels = picture.width * picture.height
            if pixels > LARGEST_PIXELS:
                raise Image.DecompressionBombError
            if picture.format == "TIFF" and before is not None and pixels > before:
                # The limit is checked once more when it is decoded.
                picture.load()
        finally:
            Image.MAX_IMAGE_PIXELS = before
    return picture
