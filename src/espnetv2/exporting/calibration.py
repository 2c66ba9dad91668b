"""Images for quantisation and verification."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.finding import pictures_in
from espnetv2.images import read_picture
from espnetv2.ownership import is_result
from espnetv2.runtimes.description import Description

MOST_PICTURES = 48


class Calibration:
    """Images of a folder, evenly spread over it, as input for a graph. Results of predictions are left out.

    Args:
        folder: searched recursively.
        description: of the file to be written.

    Raises:
        UserError: there is no such folder, it has no images, or one cannot be decoded.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        if not folder.is_dir():
            raise UserError(f'calibrate: "{folder}" is not a folder: give one with representative images')
        paths = [path for path in pictures_in(folder) if not is_result(path)]
        if not paths:
            raise UserError(f'calibrate: no images below "{folder}": it needs files such as .jpg or .png')
        self._paths = _spread(paths, MOST_PICTURES)
        self._description = description
        # So that an unreadable folder is noticed before any work.
        read_picture(self._paths[0])

    def __len__(self) -> int:
        return len(self._paths)

    def pictures(self, most: int = MOST_PICTURES) -> Iterator[Image.Image]:
        """The images themselves, at most ``most``, evenly spread."""
        for path in _spread(self._paths, most):
            yield read_picture(path)

    def inputs(self) -> Iterator[npt.NDArray[Any]]:
        """Each as a batch of one."""
        for picture in self.pictures():
            yield self._description.prepare(picture)[None]


def _spread(paths: list[Path], most: int) -> list[Path]:
    return paths[:: max(1, -(-len(paths) // most))]
