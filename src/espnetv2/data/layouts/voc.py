"""PASCAL VOC 2012 and SBD: ``JPEGImages``, ``SegmentationClass[Aug]``, ``ImageSets/Segmentation/<split>.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnetv2.data.dataset import SegmentationData, file_blob
from espnetv2.data.layouts.common import keyed, no_split, pair, read_text, split_folder, visible
from espnetv2.data.layouts.tools import described
from espnetv2.data.masks import MaskCodec, index_codec
from espnetv2.errors import UserError
from espnetv2.finding import IMAGE_SUFFIXES
from espnetv2.labels import VOC

AUGMENTED = "trainaug"


def voc_codec() -> MaskCodec:
    """Masks of class indices, 0 to 20, and 255 for the border."""
    return index_codec(len(VOC.classes), hint="PASCAL VOC masks contain 0 to 20, and 255")


def matches(root: Path) -> bool:
    """Whether the folder, or VOC2012 inside it, looks like this layout."""
    return (_home(root) / "ImageSets" / "Segmentation").is_dir()


def open_split(root: Path, split: str) -> SegmentationData:
    """One split: ``train``, ``val``, ``trainval``, or ``trainaug`` with the masks of SBD."""
    home = _home(root)
    lists = home / "ImageSets" / "Segmentation"
    path = lists / f"{split}.txt"
    if not path.is_file():
        there = [file.stem for file in visible(lists, "*.txt")]
        raise no_split(split, f"file {path}", there, "write it, with the name of an image per line")
    lines = [line.strip().replace("\\", "/") for line in read_text(path).splitlines() if line.strip()]
    folder = _mask_folder(home, split)
    labels, codec = described(root) or described(home) or (VOC, voc_codec())
    # Some lists contain pairs of paths, others names.
    named = [_paths(home, line) for line in lines]
    if pairs := [(file_blob(found[0]), file_blob(found[1])) for found in named if found is not None]:
        if len(pairs) < len(lines):
            odd = lines[named.index(None)]
            raise UserError(f'{path} lists images and masks by path, but "{odd}" is not a pair of files below {home}')
        return SegmentationData("voc", split, labels, pairs, codec)
    known = keyed(split_folder(home, "JPEGImages"))
    names = [_name(line, known) for line in lines]
    # A missing image is reported by name when it is read.
    pictures = [(name, known.get(name, home / "JPEGImages" / f"{name}.jpg")) for name in names]
    return SegmentationData("voc", split, labels, pair(pictures, keyed(folder), folder), codec)


def _mask_folder(home: Path, split: str) -> Path:
    if split == AUGMENTED:
        return home / "SegmentationClassAug"
    # Older LabelMe writes NumPy arrays into the usual folder.
    of_labelme = home / "SegmentationClassPNG"
    return of_labelme if of_labelme.is_dir() else home / "SegmentationClass"


def _paths(home: Path, line: str) -> tuple[Path, Path] | None:
    """The image and the mask if a line gives them by path, else None."""
    names = line.split()
    if len(names) != 2:
        return None
    picture, mask = (home / name.lstrip("/") for name in names)
    return (picture, mask) if picture.is_file() and mask.is_file() else None


def _name(line: str, known: Mapping[str, Path]) -> str:
    """The name that a line gives to an image and its mask, relative to their folders and without suffix."""
    for text in (line, line.split()[0]):
        name = text.lstrip("/").removeprefix("JPEGImages/")
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            name = Path(name).with_suffix("").as_posix()
        if name in known:
            return name
    return line.split()[0]


def _home(root: Path) -> Path:
    return next((path for path in (root / "VOC2012", root / "VOCdevkit" / "VOC2012") if path.is_dir()), root)
