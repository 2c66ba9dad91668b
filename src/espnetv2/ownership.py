"""Mark the files that this program writes, so that a later run replaces those and no others."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from espnetv2.errors import UserError
from espnetv2.images import open_picture

WRITER = "espnetv2"
PNG_KEY = "Software"
# A box that players skip: its length, its type, its content.
_MP4_END = (8 + len(WRITER)).to_bytes(4, "big") + b"free" + WRITER.encode()
_JSON_KEYS = {"source", "width", "height", "top"}


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG that ``is_ours`` recognises."""
    mark = PngInfo()
    mark.add_text(PNG_KEY, WRITER)
    picture.save(path, pnginfo=mark)


def save_jpeg(picture: Image.Image, path: Path) -> None:
    """Write a JPEG that ``is_ours`` recognises."""
    picture.save(path, quality=90, comment=WRITER)


def mark_video(path: Path) -> None:
    """Append to an MP4 file what ``is_ours`` recognises."""
    with path.open("ab") as file:
        file.write(_MP4_END)


def is_ours(path: Path) -> bool:
    """Whether this program wrote the file: a class map, an overlay, a plot, a video, or the JSON of a classification."""
    # What cannot be read, in whatever way, is not ours.
    with suppress(Exception):
        if path.suffix == ".mp4":
            with path.open("rb") as file:
                file.seek(-len(_MP4_END), os.SEEK_END)
                return file.read() == _MP4_END
        if path.suffix == ".json":
            return _is_classification(json.loads(path.read_text(encoding="utf-8")))
        with open_picture(path) as picture:
            return picture.info.get(PNG_KEY) == WRITER or picture.info.get("comment") == WRITER.encode()
    return False


def is_result(path: Path) -> bool:
    """Whether a prediction wrote the file. The name is looked at first, since opening many files takes time."""
    return (path.suffix in (".png", ".json") or path.stem.endswith("_overlay")) and is_ours(path)


def check_replaceable(*paths: Path) -> None:
    """Refuse to replace files that this program did not write.

    Raises:
        UserError: there is such a file.
    """
    for path in paths:
        if path.exists() and not is_ours(path):
            raise UserError(
                f"{path} already exists and was not written by this version of the program: remove it, or choose another folder"
            )


def _is_classification(content: Any) -> bool:
    return isinstance(content, dict) and content.keys() - {"frame"} == _JSON_KEYS
