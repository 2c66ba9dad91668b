"""What annotation tools export is read as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from espnetv2.data.check import check_split
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from small_data import open_segmentation, write_mask, write_picture


def write_voc(root: Path, split: str) -> None:
    write_picture(root / "JPEGImages/1.jpg")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / f"ImageSets/Segmentation/{split}.txt").write_text("1\n")


def test_cvat(tmp_path: Path) -> None:
    write_voc(tmp_path, "default")
    mask = Image.new("RGB", (2, 2))
    mask.putpixel((1, 0), (250, 50, 83))
    (tmp_path / "SegmentationClass").mkdir()
    mask.save(tmp_path / "SegmentationClass/1.png")
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nold car:250,50,83::\n")
    data = open_segmentation("auto", tmp_path, "default")
    assert data.labels.classes == ("background", "old car")
    assert data.labels.palette == ((0, 0, 0), (250, 50, 83))
    assert data.mask(0).tolist() == [[0, 1], [0, 0]]
    mask.putpixel((0, 0), (1, 2, 3))
    mask.save(tmp_path / "SegmentationClass/1.png")
    with pytest.raises(UserError, match=r"unknown label values \(1, 2, 3\): check the classes in labelmap\.txt$"):
        data.mask(0)


def test_a_list_beside_images_and_masks(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/train/1.jpg")
    write_mask(tmp_path / "masks/train/1.png", [[0, 1], [0, 0]])
    with pytest.raises(UserError, match=r"dataset\.yaml is missing: create it"):
        open_dataset("auto", tmp_path, "train")
    (tmp_path / "class_names.txt").write_text("ground\nthing\n")
    assert open_segmentation("auto", tmp_path, "train").labels.classes == ("ground", "thing")


@pytest.mark.parametrize("line", ["car", "car:1,2::", "car:1,2,300::"])
def test_a_wrong_line_of_cvat(line: str, tmp_path: Path) -> None:
    write_voc(tmp_path, "train")
    (tmp_path / "labelmap.txt").write_text(f"background:0,0,0::\n{line}\n")
    with pytest.raises(UserError, match=rf'labelmap\.txt: "{line}" is not of the form'):
        open_dataset("voc", tmp_path, "train")


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationClassPNG"])
def test_labelme(folder: str, tmp_path: Path) -> None:
    write_voc(tmp_path, "train")
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "SegmentationClass/1.npy").touch()
    write_mask(tmp_path / folder / "1.png", [[0, 2], [255, 1]], palette=True)
    (tmp_path / "class_names.txt").write_text("_background_\n#1\ndog\n")
    data = open_segmentation("auto", tmp_path, "train")
    assert data.labels.classes == ("_background_", "#1", "dog")
    assert data.mask(0).tolist() == [[0, 2], [255, 1]]


def test_a_description_of_ones_own_comes_first(tmp_path: Path) -> None:
    write_voc(tmp_path, "train")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 2], [255, 1]], palette=True)
    (tmp_path / "class_names.txt").write_text("a\nb\nc\n")
    (tmp_path / "dataset.yaml").write_text("classes: [d, e, f]")
    assert open_segmentation("auto", tmp_path, "train").labels.classes == ("d", "e", "f")


def test_voc_without_lists(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages/1.jpg")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 2], [255, 1]], palette=True)
    with pytest.raises(UserError, match=r"looks like PASCAL VOC without its lists: write .* into .*train\.txt and val\.txt"):
        open_dataset("auto", tmp_path, "train")


def test_classes_that_are_probably_not_those_of_voc(tmp_path: Path) -> None:
    write_voc(tmp_path, "train")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 2], [255, 1]], palette=True)
    warning = "most of the data set's 21 classes (background, aeroplane, …) do not occur: if yours are others, list them in"
    assert warning in check_split(open_dataset("voc", tmp_path, "train"), quick=True).warnings[0]
