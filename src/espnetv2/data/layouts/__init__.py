"""The supported layouts of data sets on disk, one module each, and a table of them."""

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
"""In the order in which they are tried on a folder: a downloaded archive may be next to its extracted files."""

AUTO = "auto"


def open_dataset(layout: str, root: str | Path, split: str, *, mask_scale: float = 1.0) -> LabelledData:
    """Find the images and labels of a split.

    Args:
        layout: a name in ``LAYOUTS``, or ``auto`` to detect it.
        root: the data set's folder.
        split: such as ``train`` or ``val``.
        mask_scale: size of the masks' sides relative to those of their images.

    Raises:
        UserError: no such layout, folder or split, a split without images, an image without a label, or a layout that is not
            recognised.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f'no folder "{root}": give the data set\'s folder')
    if layout == AUTO:
        layout = _recognise(folder)
    elif layout not in LAYOUTS:
        raise UserError(f'no data set layout "{layout}": {nearest(layout, LAYOUTS)}')
    if split.strip() in ("", ".", ".."):
        raise UserError(f'"{split}" is not the name of a split: give one such as train or val')
    try:
        data = LAYOUTS[layout].open(folder, split)
    except UserError as error:
        likely = next((name for name, other in LAYOUTS.items() if other.matches(folder)), layout)
        if LAYOUTS[layout].matches(folder) or likely == layout:
            raise
        raise UserError(
            f'"{folder}" looks like the layout {likely}, not {layout}: give --dataset {likely} ({error})'
        ) from error
    if not len(data):
        raise UserError(f'the split "{split}" of {folder} has no images: fill its list, or choose another split')
    for name in data.labels.classes:
        shown = name.encode(errors="backslashreplace").decode()
        if shown != name:
            raise UserError(f'the class name "{shown}" is not valid UTF-8: rename its folder')
    if isinstance(data, SegmentationData) and mask_scale != data.mask_scale:
        return SegmentationData(data.layout, data.split, data.labels, data.pairs, data.codec, mask_scale)
    return data


def _recognise(folder: Path) -> str:
    for name, layout in LAYOUTS.items():
        if layout.matches(folder):
            return name
    if (folder / "JPEGImages").is_dir():
        raise UserError(
            f'"{folder}" looks like PASCAL VOC without its lists: write the names of the images, one per line, into '
            f"{folder / 'ImageSets' / 'Segmentation' / 'train.txt'} and val.txt"
        )
    if looks_segmented(folder):
        raise UserError(
            f'"{folder}" looks like images with masks, which are expected in images/SPLIT and masks/SPLIT with a dataset.yaml: '
            "move them there, or give another layout"
        )
    if imagefolder.is_unsplit(folder):
        raise imagefolder.unsplit(folder)
    raise UserError(f'the layout of "{folder}" is not recognised: give one of {", ".join(LAYOUTS)}')
