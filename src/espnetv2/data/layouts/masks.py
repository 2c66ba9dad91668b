"""A segmentation data set of one's own: ``images/<split>``, ``masks/<split>``, ``dataset.yaml``."""

from __future__ import annotations

import logging
from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts.common import pair, pictures_below, split_folder
from espnetv2.data.layouts.description import read_description

log = logging.getLogger(__name__)


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return (root / "images").is_dir() and (root / "masks").is_dir()


def open_split(root: Path, split: str) -> SegmentationData:
    """One split; a mask has the same path below ``masks/<split>`` as its picture below ``images/<split>``, suffix aside."""
    description = read_description(root)
    pictures, masks = split_folder(root / "images", split), split_folder(root / "masks", split)
    keyed_pictures = [(_key(path, pictures), path) for path in pictures_below(pictures)]
    keyed_masks = {_key(path, masks): path for path in pictures_below(masks)}
    if extra := sorted(keyed_masks.keys() - {key for key, _ in keyed_pictures}):
        log.warning("%s: %d masks have no picture, the first is %s: left out", masks, len(extra), keyed_masks[extra[0]].name)
    pairs = pair(keyed_pictures, keyed_masks, masks)
    return SegmentationData("masks", split, description.labels(), pairs, description.codec())


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
