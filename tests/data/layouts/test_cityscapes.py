from __future__ import annotations

from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.labels import CITYSCAPES
from small_data import open_segmentation, write_mask, write_picture


def cityscapes_tree(root: Path, kind: str, values: list[list[int]]) -> Path:
    write_picture(root / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    write_mask(root / f"gtFine/val/ulm/ulm_000000_000019_gtFine_{kind}.png", values)
    return root


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    data = open_segmentation("auto", cityscapes_tree(tmp_path, "labelTrainIds", [[0, 18], [255, 3]]))
    assert (data.layout, data.labels) == ("cityscapes", CITYSCAPES)
    assert data.mask(0).tolist() == [[0, 18], [255, 3]]


def test_cityscapes_label_ids(tmp_path: Path) -> None:
    data = open_segmentation("cityscapes", cityscapes_tree(tmp_path, "labelIds", [[7, 33], [0, 11]]))
    assert data.mask(0).tolist() == [[0, 18], [255, 2]]


def test_label_ids_in_place_of_train_ids(tmp_path: Path) -> None:
    data = open_segmentation("cityscapes", cityscapes_tree(tmp_path, "labelTrainIds", [[7, 33], [23, 26]]))
    with pytest.raises(UserError, match=r"unknown label values 23, 26, 33: this looks like a labelIds file"):
        data.mask(0)
