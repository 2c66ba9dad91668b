from __future__ import annotations

from pathlib import Path

import pytest

from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.labels import VOC
from small_data import open_segmentation, write_mask, write_picture


@pytest.mark.parametrize("prefix", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_and_sbd(tmp_path: Path, prefix: str) -> None:
    home = tmp_path / prefix
    for name in ("2007_1", "2007_2"):
        write_picture(home / f"JPEGImages/{name}.jpg")
    write_mask(home / "SegmentationClass/2007_1.png", [[0, 20], [255, 1]], palette=True)
    write_mask(home / "SegmentationClassAug/2007_2.png", [[5, 5], [5, 5]])
    lists = home / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_1\n")
    (lists / "trainaug.txt").write_text("/JPEGImages/2007_2.jpg /SegmentationClassAug/2007_2.png\n")
    data = open_segmentation("auto", tmp_path)
    assert (data.layout, data.labels) == ("voc", VOC)
    assert data.mask(0).tolist() == [[0, 20], [255, 1]]
    assert open_segmentation("voc", tmp_path, "trainaug").mask(0).tolist() == [[5, 5], [5, 5]]
    with pytest.raises(UserError, match=r'no split "tset".*; choose one of trainaug, val|did you mean'):
        open_dataset("voc", tmp_path, "tset")


def test_voc_names_with_spaces_and_dots(tmp_path: Path) -> None:
    for name in ("frame 1", "frame.2"):
        write_picture(tmp_path / f"JPEGImages/{name}.jpg")
        write_mask(tmp_path / f"SegmentationClass/{name}.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("frame 1\nframe.2\n")
    assert [picture.path.stem for picture, _ in open_segmentation("voc", tmp_path).pairs] == ["frame 1", "frame.2"]


def test_a_wrong_line_among_pairs(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages/1.jpg")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    text = "JPEGImages/1.jpg SegmentationClass/1.png\nJPEGImages/2.jpg SegmentationClass/2.png\n"
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text(text)
    with pytest.raises(UserError, match=r'"JPEGImages/2\.jpg SegmentationClass/2\.png" is not a pair of files below'):
        open_dataset("voc", tmp_path, "val")


def test_a_split_without_images(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages/1.jpg")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(UserError, match=r'the split "val" of .* has no images: fill its list'):
        open_dataset("auto", tmp_path, "val")
