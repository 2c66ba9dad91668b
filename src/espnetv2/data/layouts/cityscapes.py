"""The Cityscapes tree: ``leftImg8bit/<split>/<city>/*_leftImg8bit.*`` and ``gtFine/<split>/<city>/*_gtFine_label*Ids.*``."""

from __future__ import annotations

from pathlib import Path

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts.common import masks_in, pair, pictures_below, split_folder
from espnetv2.data.masks import MaskCodec, index_codec
from espnetv2.errors import UserError
from espnetv2.labels import CITYSCAPES, CITYSCAPES_LABEL_IDS, IGNORE

_PICTURE, _TRAIN_IDS, _LABEL_IDS = "_leftImg8bit", "_gtFine_labelTrainIds", "_gtFine_labelIds"


def train_id_codec() -> MaskCodec:
    """Masks of trainIds, 0 to 18 and 255."""
    return index_codec(len(CITYSCAPES.classes), hint="Cityscapes trainIds are 0 to 18, and 255")


def label_id_codec() -> MaskCodec:
    """Masks of labelIds, 0 to 33, and 255, which files store for the licence plate's -1; those not evaluated become 255."""
    values = dict.fromkeys((*range(34), 255), IGNORE) | {value: index for index, value in enumerate(CITYSCAPES_LABEL_IDS)}
    return MaskCodec(values, hint="Cityscapes labelIds are 0 to 33, and 255")


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return (root / "leftImg8bit").is_dir()


def open_split(root: Path, split: str) -> SegmentationData:
    """One split; labelTrainIds are preferred where both kinds of masks exist."""
    pictures = pictures_below(split_folder(root / "leftImg8bit", split))
    folder = split_folder(root / "gtFine", split)
    for suffix, codec in ((_TRAIN_IDS, train_id_codec()), (_LABEL_IDS, label_id_codec())):
        masks = masks_in(folder, suffix)
        if masks:
            keyed = [(path.stem.removesuffix(_PICTURE), path) for path in pictures]
            return SegmentationData("cityscapes", split, CITYSCAPES, pair(keyed, masks, folder), codec)
    raise UserError(f"no masks in {folder}: name them *{_TRAIN_IDS}.png or *{_LABEL_IDS}.png")
