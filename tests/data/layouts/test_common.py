from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.labels import CAMVID
from helpers import picture
from small_data import make_shapes, open_segmentation, write_mask, write_picture


def test_camvid(tmp_path: Path) -> None:
    write_picture(tmp_path / "val/a.jpg")
    write_mask(tmp_path / "valannot/a.png", [[0, 10], [11, 3]])
    data = open_segmentation("auto", tmp_path)
    assert (data.layout, data.labels) == ("camvid", CAMVID)
    assert data.mask(0).tolist() == [[0, 10], [255, 3]]


def test_another_layout_than_the_one_asked_for_is_recognised(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    with pytest.raises(UserError, match=r"looks like the layout masks, not camvid: give --dataset masks"):
        open_dataset("camvid", tmp_path, "train")


def test_any_image_suffix(tmp_path: Path) -> None:
    write_picture(tmp_path / "leftImg8bit/val/x/a_leftImg8bit.PNG")
    write_mask(tmp_path / "gtFine/val/x/a_gtFine_labelTrainIds.bmp", [[0, 18]])
    assert open_segmentation("cityscapes", tmp_path).mask(0).tolist() == [[0, 18]]
    write_picture(tmp_path / "camvid/val/b.JPG")
    write_mask(tmp_path / "camvid/valannot/b.PNG", [[10, 11]])
    assert open_segmentation("camvid", tmp_path / "camvid").mask(0).tolist() == [[10, 255]]
    home = tmp_path / "VOC2012"
    write_picture(home / "JPEGImages/c.png")
    write_mask(home / "SegmentationClass/c.PNG", [[20, 255]])
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    (home / "ImageSets/Segmentation/val.txt").write_text("c\n")
    assert open_segmentation("voc", tmp_path).mask(0).tolist() == [[20, 255]]


@pytest.mark.parametrize("layout", ["camvid", "voc names", "voc paths"])
def test_files_of_the_same_name_in_several_folders_stay_apart(layout: str, tmp_path: Path) -> None:
    pictures, masks = ("JPEGImages", "SegmentationClass") if layout != "camvid" else ("val", "valannot")
    for number, folder in enumerate("ab"):
        write_picture(tmp_path / pictures / folder / "1.jpg")
        write_mask(tmp_path / masks / folder / "1.png", [[number, number], [number, number]])
    if layout != "camvid":
        line = "JPEGImages/{0}/1.jpg SegmentationClass\\{0}\\1.png" if layout == "voc paths" else "{0}/1"
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        # As Windows writes it.
        text = "\r\n".join(line.format(folder) for folder in "ab")
        (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(text.encode("utf-8-sig"))
    data = open_segmentation("auto", tmp_path)
    for number, folder in enumerate("ab"):
        assert data.pairs[number][0].path == tmp_path / pictures / folder / "1.jpg"
        assert data.mask(number).tolist() == [[number, number], [number, number]]


def test_splits_that_are_no_folders(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    for kind in ("images", "masks"):
        (tmp_path / kind / "val" / "0.png").rename(tmp_path / kind / "0.png")
        shutil.rmtree(tmp_path / kind / "val")
        shutil.rmtree(tmp_path / kind / "train")
    with pytest.raises(UserError, match=r"move the images of each split into a folder such as .*images/train"):
        open_dataset("masks", tmp_path, "train")


def test_masks_without_an_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_shapes(tmp_path, count=3)
    (tmp_path / "images/val/1.png").unlink()
    assert len(open_dataset("masks", tmp_path, "val")) == 2
    assert caplog.messages == [f"{tmp_path}/masks/val: skipped 1 masks without an image, the first is 1.png"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=2)
    (tmp_path / "masks/val/1.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images have no mask in .*masks/val, the first is .*images/val/1\.png"):
        open_dataset("masks", tmp_path, "val")
    with pytest.raises(UserError, match=r'no split "vall": .*did you mean "val"\? \(give it with --split'):
        open_dataset("masks", tmp_path, "vall")
    with pytest.raises(UserError, match='no data set layout "mask": did you mean "masks"'):
        open_dataset("mask", tmp_path, "val")
    with pytest.raises(UserError, match='no folder "absent"'):
        open_dataset("masks", "absent", "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not recognised: give one of cityscapes"):
        open_dataset("auto", tmp_path / "empty", "val")


def test_of_two_masks_the_png_is_taken(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/1.jpg")
    write_mask(tmp_path / "masks/val/1.png", [[0, 1], [1, 0]])
    picture(2, 2).save(tmp_path / "masks/val/1.webp")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]")
    assert open_segmentation("auto", tmp_path).pairs[0][1].path.suffix == ".png"


def test_of_two_images_with_one_name_the_other_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_shapes(tmp_path, count=2)
    picture(48, 32).save(tmp_path / "images/val/0.jpg")
    assert len(open_dataset("masks", tmp_path, "val")) == 2
    assert "left out 1 images with the name of another and a different suffix, the first is" in caplog.text
    assert "0.jpg" in caplog.text


@pytest.mark.parametrize("split", ["", " ", ".", ".."])
def test_a_split_has_a_name(tmp_path: Path, split: str) -> None:
    with pytest.raises(UserError, match="is not the name of a split: give one such as train or val"):
        open_dataset("auto", make_shapes(tmp_path), split)


def test_a_folder_with_the_name_of_a_list(tmp_path: Path) -> None:
    (make_shapes(tmp_path) / "notes.txt").mkdir()
    assert open_dataset("auto", tmp_path, "val").layout == "masks"
