"""A custom segmentation data set: ``images/<split>``, ``masks/<split>``, ``dataset.yaml``."""

from __future__ import annotations

import logging
from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts.common import keyed, pair, split_folder
from espnetv2.data.layouts.description import own_classes
from espnetv2.data.layouts.tools import described

log = logging.getLogger(__name__)


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return (root / "images").is_dir() and (root / "masks").is_dir()


def open_split(root: Path, split: str) -> SegmentationData:
    """One split; a mask has the same path below ``masks/<split>`` as its image below ``images/<split>``, except the suffix."""
    labels, codec = described(root) or own_classes(root)
    pictures, masks = split_folder(root / "images", split), split_folder(root / "masks", split)
    keyed_pictures, keyed_masks = keyed(pictures), keyed(masks)
    if extra := sorted(keyed_masks.keys() - keyed_pictures.keys()):
        log.warning("%s: skipped %d masks without an image, the first is %s", masks, len(extra), keyed_masks[extra[0]].name)
    pairs = pair(sorted(keyed_pictures.items()), keyed_masks, masks)
    return SegmentationData("masks", split, labels, pairs, codec)
