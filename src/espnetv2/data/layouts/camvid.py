"""CamVid with 11 classes: images in ``<split>``, masks of the same name in ``<split>annot``."""

from __future__ import annotations

from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts.common import keyed, pair, split_folder
from espnetv2.data.layouts.tools import described
from espnetv2.data.masks import index_codec
from espnetv2.labels import CAMVID

VOID = 11


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(path.is_dir() for path in root.glob("*annot"))


def open_split(root: Path, split: str) -> SegmentationData:
    """One split; the value 11 is "void", not a class. The classes can be replaced by a ``dataset.yaml``."""
    pictures = sorted(keyed(split_folder(root, split)).items())
    folder = split_folder(root, f"{split}annot")
    codec = index_codec(len(CAMVID.classes), ignore=(VOID, 255), hint="CamVid masks contain 0 to 10, and 11 for void")
    labels, codec = described(root) or (CAMVID, codec)
    return SegmentationData("camvid", split, labels, pair(pictures, keyed(folder), folder), codec)
