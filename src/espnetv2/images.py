"""Decode any picture into 8-bit RGB, upright. Nothing here needs torch."""

from __future__ import annotations

import io
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from espnetv2.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd"})
"""Of pictures that people have and that cannot be decoded here."""
LARGEST_PIXELS = 500_000_000
_OF_OTHER_PROGRAMS = {"__MACOSX", "@eaDir"}
"""Folders of thumbnails and the like that systems leave among images."""
_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_WIDE = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_pillow_limit = threading.Lock()
log = logging.getLogger(__name__)


def read_picture(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """Decode a file, or the bytes of one, into an upright 8-bit RGB picture.

    16-bit grey is scaled, transparency laid over white, CMYK and palettes converted, the EXIF rotation applied; of an
    animation the first frame is taken.

    Args:
        source: path, or content.
        name: what to call it in an error message, where the source has no path.

    Raises:
        UserError: it is empty, damaged, truncated, no picture at all, or larger than 500 million pixels.
    """
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
    try:
        with open_picture(content) as picture:
            return as_rgb(picture)
    except UnidentifiedImageError as error:
        raise UserError(f"{label}: not a picture that can be decoded; convert it to PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{label}: more than {LARGEST_PIXELS // 10**6} million pixels; cut it into parts") from error
    except Exception as error:
        # A damaged file can break the decoder anywhere.
        raise UserError(f"{label}: the picture is damaged or truncated ({error})") from error


def as_rgb(picture: Image.Image) -> Image.Image:
    """Any picture as upright 8-bit RGB of its own.

    Raises:
        ValueError: floating-point pixels, whose range is not defined.
    """
    picture = upright(picture)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if picture.mode in _WIDE:
        # Pillow clips these at 255 when it converts them.
        return Image.fromarray(_narrow(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def is_picture_file(path: Path) -> bool:
    """Whether this is a file that is called like a picture, and not hidden: macOS leaves ``._name.jpg`` beside others."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder that people put images into: not hidden, and not left by a system."""
    return path.is_dir() and not path.name.startswith(".") and path.name not in _OF_OTHER_PROGRAMS


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted, links followed; hidden folders and those that systems leave are left out."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back up.
        seen.add(os.path.realpath(place))
        folders[:] = [
            name for name in folders if is_own_folder(Path(place, name)) and os.path.realpath(Path(place, name)) not in seen
        ]
        found += [Path(place, name) for name in names]
    return sorted(found)


def pictures_in(folder: Path) -> list[Path]:
    """All images below a folder, sorted. The log says how many are left out: for lack of a decoder, or links to nothing."""
    files = files_below(folder)
    if broken := [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not path.exists()]:
        log.warning("%s: %d links left out that lead nowhere, the first is %s", folder, len(broken), broken[0])
    left = [path.suffix.lower() for path in files if path.suffix.lower() in UNREADABLE_SUFFIXES]
    if left:
        kinds = ", ".join(sorted(set(left)))
        log.warning(
            "%s: %d files left out that cannot be read here (%s): convert them to JPEG or PNG", folder, len(left), kinds
        )
    return [path for path in files if is_picture_file(path)]


def upright(picture: Image.Image) -> Image.Image:
    """A copy, turned and mirrored as the EXIF orientation says, where that can be read."""
    how: Image.Transpose | None = None
    # Pillow's own exif_transpose writes the EXIF anew as well, which fails for the odd entries of some cameras.
    with suppress(Exception):
        how = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    return picture.copy() if how is None else picture.transpose(how)


def picture_from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """A picture from pixels: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, 8 or 16 bits.

    Raises:
        UserError: another shape or type.
    """
    squeezed = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    shape_fits = squeezed.ndim == 2 or (squeezed.ndim == 3 and squeezed.shape[2] in (3, 4))
    if not shape_fits or squeezed.dtype not in (np.uint8, np.uint16) or squeezed.size == 0:
        raise UserError(
            f"an array of shape {array.shape} and type {array.dtype} is no picture: "
            "give (height, width, 3) with RGB values of type uint8"
        )
    pixels = _narrow(squeezed) if squeezed.dtype == np.uint16 else squeezed.astype(np.uint8)
    return as_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _narrow(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """16-bit values -> 8-bit ones."""
    wide = np.clip(values.astype(np.int64), 0, 65_535)
    return ((wide + 128) // 257).astype(np.uint8)


def open_picture(content: bytes) -> Image.Image:
    """Open with this project's limit on the number of pixels in place of Pillow's, which is a global.

    Raises:
        PIL.UnidentifiedImageError: it is no picture.
        PIL.Image.DecompressionBombError: it has more than 500 million pixels.
    """
    with _pillow_limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            picture = Image.open(io.BytesIO(content))
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if picture.width * picture.height > LARGEST_PIXELS:
        raise Image.DecompressionBombError
    return picture
