"""The classes of a data set: from ``dataset.yaml``, or from the list that an annotation tool writes beside masks."""

from __future__ import annotations

import re
from pathlib import Path

from espnetv2.data.layouts.common import read_text
from espnetv2.data.layouts.description import FILE, Description, check_description, own_classes
from espnetv2.data.masks import MaskCodec
from espnetv2.errors import UserError
from espnetv2.labels import Labels

CVAT = "labelmap.txt"
LABELME = "class_names.txt"
_CVAT_LINE = re.compile(r"(?P<name>[^:]+):(?P<red>\d{1,3}),(?P<green>\d{1,3}),(?P<blue>\d{1,3}):.*")


def described(root: Path) -> tuple[Labels, MaskCodec] | None:
    """The classes and mask codec of ``dataset.yaml`` or of a tool's list, or None if there is neither.

    Raises:
        UserError: the file cannot be read, or contradicts itself.
    """
    if (root / FILE).is_file():
        return own_classes(root)
    for name, read in ((CVAT, _cvat), (LABELME, _labelme)):
        if (path := root / name).is_file():
            lines = [line.strip() for line in read_text(path).splitlines()]
            description = read(path, [line for line in lines if line])
            check_description(path, description)
            return description.labels(), description.codec(name)
    return None


def _cvat(path: Path, lines: list[str]) -> Description:
    """``name:red,green,blue:parts:actions``, for masks in these colours."""
    lines = [line for line in lines if not line.startswith("#")]
    found = [_CVAT_LINE.fullmatch(line) for line in lines]
    names, palette = [], []
    for line, match in zip(lines, found, strict=True):
        if match is None or any(int(match[channel]) > 255 for channel in ("red", "green", "blue")):
            raise UserError(f'{path}: "{line}" is not of the form  name:red,green,blue:parts:actions: write a dataset.yaml')
        names.append(match["name"])
        palette.append((int(match["red"]), int(match["green"]), int(match["blue"])))
    return Description(classes=names, palette=palette)


def _labelme(path: Path, lines: list[str]) -> Description:
    """A name per line, for masks of class indices in this order; ``__ignore__`` stands for 255."""
    del path
    return Description(classes=[line for line in lines if line != "__ignore__"])
