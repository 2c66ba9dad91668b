"""Find image files in folders. Nothing here needs torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd"})
"""Common image formats that cannot be decoded here."""
_OF_OTHER_PROGRAMS = {"__MACOSX", "@eaDir"}
"""Folders of thumbnails and the like that operating systems leave among images."""
log = logging.getLogger(__name__)


def is_picture_file(path: Path) -> bool:
    """Whether this is a file with an image suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder that users put images into: not hidden, and not left by an operating system."""
    return path.is_dir() and not path.name.startswith(".") and path.name not in _OF_OTHER_PROGRAMS


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted, following links.

    Hidden files and folders and those of operating systems are skipped: macOS leaves ``._name.jpg`` next to images.
    """
    found: list[Path] = []
    # The real folders that each folder is in: a link may point to one of them.
    inside: dict[Path, frozenset[str]] = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        here = inside.pop(Path(place), frozenset()) | {os.path.realpath(place)}
        folders[:] = [
            name for name in folders if is_own_folder(Path(place, name)) and os.path.realpath(Path(place, name)) not in here
        ]
        inside |= {Path(place, name): here for name in folders}
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def pictures_in(folder: Path) -> list[Path]:
    """All images below a folder, sorted. The log says how many are skipped, as broken links or for lack of a decoder."""
    return pictures_among(files_below(folder), folder)


def pictures_among(files: Sequence[Path], folder: Path) -> list[Path]:
    """Those of a folder's files that are images, with the messages of ``pictures_in``."""
    if broken := [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not path.exists()]:
        log.warning("%s: skipped %d broken links, the first is %s", folder, len(broken), broken[0])
    left = [path.suffix.lower() for path in files if path.suffix.lower() in UNREADABLE_SUFFIXES]
    if left:
        kinds = ", ".join(sorted(set(left)))
        log.warning("%s: skipped %d files that cannot be decoded (%s): convert them to JPEG or PNG", folder, len(left), kinds)
    return [path for path in files if is_picture_file(path)]
