"""The authors' list files: ``<split>.txt`` with a line ``image,label`` per image, paths relative to the folder."""

from __future__ import annotations

from pathlib import Path

from espnetv2.data.dataset import SegmentationData, file_blob
from espnetv2.data.layouts.cityscapes import label_id_codec, train_id_codec
from espnetv2.data.layouts.common import no_split, read_text, visible
from espnetv2.data.layouts.description import FILE
from espnetv2.data.layouts.tools import described
from espnetv2.data.layouts.voc import voc_codec
from espnetv2.data.masks import MaskCodec
from espnetv2.errors import UserError
from espnetv2.finding import IMAGE_SUFFIXES
from espnetv2.labels import CITYSCAPES, VOC, Labels


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(_is_list(path) for path in visible(root, "*.txt") if path.is_file())


def open_split(root: Path, split: str) -> SegmentationData:
    """One split. The classes come from ``dataset.yaml``, or from the masks' file names (Cityscapes, PASCAL VOC)."""
    path = root / f"{split}.txt"
    if not path.is_file():
        there = [file.stem for file in visible(root, "*.txt")]
        raise no_split(split, f"file {path}", there, "write it, with a line image,label per image")
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        names = _names(line)
        if len(names) != 2:
            raise UserError(f'{path}, line {number}: "{line}" is not of the form image,label')
        for name in names:
            if not (root / name).is_file():
                raise UserError(f"{path}, line {number}: there is no file {root / name}")
        pairs.append((file_blob(root / names[0]), file_blob(root / names[1])))
    if not pairs:
        raise UserError(f"{path} is empty: it needs one line image,label per image")
    labels, codec = _classes(root, pairs[0][1].name)
    return SegmentationData("list", split, labels, pairs, codec)


def _classes(root: Path, mask: str) -> tuple[Labels, MaskCodec]:
    if (own := described(root)) is not None:
        return own
    if "labelTrainIds" in mask:
        return CITYSCAPES, train_id_codec()
    if "labelIds" in mask:
        return CITYSCAPES, label_id_codec()
    if "SegmentationClass" in mask:
        return VOC, voc_codec()
    raise UserError(f"the classes of {mask} are unknown: list them in {root / FILE}")


def _names(line: str) -> list[str]:
    return [name.strip().replace("\\", "/").lstrip("/") for name in line.split(",")]


def _is_list(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        names = _names(file.readline())
    # Ordinary text may contain a comma, too.
    return len(names) == 2 and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
