"""PASCAL VOC 2012 and SBD: ``JPEGImages``, ``SegmentationClass[Aug]``, ``ImageSets/Segmentation/<split>.txt``."""

from __future__ import annotations

from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts.common import masks_in, pair, pictures_below, read_text, split_folder
from espnetv2.data.masks import MaskCodec, index_codec
from espnetv2.errors import UserError, nearest
from espnetv2.labels import VOC

AUGMENTED = "trainaug"


def voc_codec() -> MaskCodec:
    """Masks of class indices, 0 to 20, and 255 for the border."""
    return index_codec(len(VOC.classes), hint="PASCAL VOC masks hold 0 to 20, and 255")


def matches(root: Path) -> bool:
    """Whether the folder, or the VOC2012 inside it, looks like this layout."""
    return (_home(root) / "ImageSets" / "Segmentation").is_dir()


def open_split(root: Path, split: str) -> SegmentationData:
    """One split: ``train``, ``val``, ``trainval``, or ``trainaug`` with the masks of SBD."""
    home = _home(root)
    lists = home / "ImageSets" / "Segmentation"
    path = lists / f"{split}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in lists.glob("*.txt"))
        raise UserError(f'no split "{split}": there is no file {path}' + (f"; {nearest(split, there)}" if there else ""))
    # Some lists hold names, others pairs of paths.
    names = [Path(line.split()[0]).stem for line in read_text(path).splitlines() if line.strip()]
    folder = home / ("SegmentationClassAug" if split == AUGMENTED else "SegmentationClass")
    known = {file.stem: file for file in pictures_below(split_folder(home, "JPEGImages"))}
    # One that is missing is told when it is read, with its name.
    pictures = [(name, known.get(name, home / "JPEGImages" / f"{name}.jpg")) for name in names]
    return SegmentationData("voc", split, VOC, pair(pictures, masks_in(folder), folder), voc_codec())


def _home(root: Path) -> Path:
    return next((path for path in (root / "VOC2012", root / "VOCdevkit" / "VOC2012") if path.is_dir()), root)
