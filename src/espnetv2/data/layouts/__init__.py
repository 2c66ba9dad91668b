"""The layouts of data sets on disk, one module each, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from espnetv2.data.dataset import LabelledData, SegmentationData
from espnetv2.data.layouts import camvid, cityscapes, imagefolder, lists, masks, shards, voc
from espnetv2.data.layouts.common import looks_segmented
from espnetv2.errors import UserError, nearest


class Layout(NamedTuple):
    """How to recognise a layout, and how to read a split of it."""

    matches: Callable[[Path], bool]
    open: Callable[[Path, str], LabelledData]


LAYOUTS = {
    "cityscapes": Layout(cityscapes.matches, cityscapes.open_split),
    "voc": Layout(voc.matches, voc.open_split),
    "camvid": Layout(camvid.matches, camvid.open_split),
    "masks": Layout(masks.matches, masks.open_split),
    "list": Layout(lists.matches, lists.open_split),
    "imagefolder": Layout(imagefolder.matches, imagefolder.open_split),
    "webdataset": Layout(shards.matches, shards.open_split),
}
"""In the order in which a folder is compared with them: a data set's download may lie beside what it held."""

AUTO = "auto"


def open_dataset(layout: str, root: str | Path, split: str, *, mask_scale: float = 1.0) -> LabelledData:
    """Find the pictures and labels of a split.

    Args:
        layout: a name in ``LAYOUTS``, or ``auto`` to recognise it.
        root: the data set's folder.
        split: such as ``train`` or ``val``.
        mask_scale: sides of the masks over those of their pictures.

    Raises:
        UserError: no such layout, folder or split, a split without pictures, a picture without a label, or a layout that is not
            recognised.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f'no folder "{root}": name the data set\'s folder')
    if layout == AUTO:
        layout = _recognise(folder)
    elif layout not in LAYOUTS:
        raise UserError(f'no data set layout "{layout}": {nearest(layout, LAYOUTS)}')
    data = LAYOUTS[layout].open(folder, split)
    if not len(data):
        raise UserError(f'the split "{split}" of {folder} has no pictures: fill its list, or name another split')
    for name in data.labels.classes:
        shown = name.encode(errors="backslashreplace").decode()
        if shown != name:
            raise UserError(f'the class "{shown}" has a name that is not UTF-8: rename its folder')
    if isinstance(data, SegmentationData) and mask_scale != data.mask_scale:
        return SegmentationData(data.layout, data.split, data.labels, data.pairs, data.codec, mask_scale)
    return data


def _recognise(folder: Path) -> str:
    for name, layout in LAYOUTS.items():
        if layout.matches(folder):
            return name
    if looks_segmented(folder):
        raise UserError(
            f'"{folder}" looks like pictures with masks, which are expected as images/SPLIT, masks/SPLIT and dataset.yaml: '
            "move them so, or name another layout"
        )
    raise UserError(f'the layout of "{folder}" is not recognised: name it, one of {", ".join(LAYOUTS)}')
