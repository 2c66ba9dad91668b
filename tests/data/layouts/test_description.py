from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from small_data import SHAPE_CLASSES, make_shapes, open_segmentation, write_mask, write_picture


def test_rgb_masks(tmp_path: Path) -> None:
    data = open_segmentation("auto", make_shapes(tmp_path))
    assert data.labels.classes == SHAPE_CLASSES
    assert set(np.unique(data.mask(0)).tolist()) <= {0, 1, 2}


def test_index_masks_with_other_values(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/sub/a.jpg")
    write_mask(tmp_path / "masks/val/sub/a.png", [[3, 7], [9, 3]])
    (tmp_path / "dataset.yaml").write_text(
        "classes: {3: soil, 7: weed}\nignore_index: 9\npalette: ['#102030', '#ffffff']\nrgb_masks: false\n"
    )
    data = open_segmentation("masks", tmp_path)
    assert data.mask(0).tolist() == [[0, 1], [255, 0]]
    assert data.labels.palette == ((16, 32, 48), (255, 255, 255))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [a, b]\nclases: 3", 'unknown key "clases": did you mean "classes"'),
        ("classes: [a, a, b]", "names a class twice"),
        ("classes: [a, b]\nignore_index: -1", "ignore_index: input should be greater"),
        ("classes: [a]", "names 1 classes: two to 255"),
        ("classes: [a, '']", "has a class without a name"),
        ("classes: [a, b]\nrgb_masks: true", "has rgb_masks without a palette"),
        (
            "classes: [void, a, b]\nignore_index: 0",
            r'0 is both the mask value of "void" and ignore_index: .*classes: \{1: a, 2: b\}',
        ),
        (
            "classes: [a, b]\npalette: [[0, 0, 0], [9, 9, 9]]\nignore_colours: [[9, 9, 9]]",
            r"\[9, 9, 9\] is both the colour of a class and in ignore_colours",
        ),
        ("classes: [a, b]\npalette: [[0, 0, 0]]", "1 colours for 2 classes"),
        ("classes: [a, b]\npalette: [[0, 0, 0], [0, 0, 0]]", "the same colour"),
        ("classes: [a, b]\npalette: ['#00', '#11']", "is not a colour"),
        ("classes: [a, off]", r'classes\.1: YAML reads this as yes or no: put a name in quotes, as in "off" \(found False\)'),
        ("classes: {0: no, 1: b}", r"classes\.0: YAML reads this as yes or no"),
        ("classes: {one: a, 1: b}", r"classes\.one: input should be a valid integer"),
        ("classes: {0: a, 1: b, 1: c}", 'is not valid YAML: the key "1" occurs twice'),
        ("classes: [", r"is not valid YAML: [^\n]+$"),
        ("palette: []", "classes: field required"),
        ("names: [a, b]", 'unknown key "names": it is called classes here'),
        ("classes: [a, b]\ncolors: [[0, 0, 0], [9, 9, 9]]", 'unknown key "colors": it is called palette here'),
    ],
)
def test_mistakes_in_a_description(tmp_path: Path, text: str, message: str) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset("masks", tmp_path, "val")


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/a.jpg")
    write_mask(tmp_path / "masks/val/a.png", [[0, 255], [255, 0]])
    (tmp_path / "dataset.yaml").write_text("classes: {0: ground, 255: thing}\n")
    assert open_segmentation("masks", tmp_path).mask(0).tolist() == [[0, 1], [1, 0]]


def test_masks_of_0_and_255_with_smoothed_edges(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: {0: ground, 255: thing}")
    write_mask(tmp_path / "masks/val/0.png", [list(range(0, 255, 8)), 32 * [255]])
    with pytest.raises(UserError, match=r"unknown label values .*edges must not be smoothed, which mixes values"):
        open_segmentation("masks", tmp_path).mask(0)


def test_an_rgb_mask_without_a_palette(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    with pytest.raises(UserError, match=r"this is an RGB mask, but class indices are expected"):
        open_segmentation("masks", tmp_path).mask(0)


def test_a_mask_with_transparency(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    Image.new("LA", (48, 32), (2, 255)).save(tmp_path / "masks/val/0.png")
    assert set(open_segmentation("masks", tmp_path).mask(0).ravel().tolist()) == {2}


def test_black_and_white_masks_with_a_palette(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=2)
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]\npalette: ['#000000', '#ffffff']\n")
    for number, mode in enumerate(("L", "1")):
        mask = Image.new("L", (2, 1))
        mask.putpixel((1, 0), 255)
        mask.convert(mode).save(tmp_path / f"masks/val/{number}.png")
        assert open_segmentation("masks", tmp_path).mask(number).tolist() == [[0, 1]]


def test_class_indices_where_colours_are_expected(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    write_mask(tmp_path / "masks/val/0.png", [[0, 1], [2, 1]])
    with pytest.raises(UserError, match=r"class indices: write  rgb_masks: false"):
        open_segmentation("masks", tmp_path).mask(0)


def test_unknown_colours_are_named(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "masks/val/0.png")
    with pytest.raises(UserError, match=r"unknown label values \(1, 2, 3\): check the classes in dataset.yaml"):
        open_segmentation("masks", tmp_path).mask(0)


@pytest.mark.parametrize("layout", ["camvid", "voc"])
def test_other_classes_in_the_layout_of_a_known_data_set(layout: str, tmp_path: Path) -> None:
    pictures, masks = ("val", "valannot") if layout == "camvid" else ("JPEGImages", "SegmentationClass")
    write_picture(tmp_path / pictures / "1.jpg")
    write_mask(tmp_path / masks / "1.png", [[0, 1], [1, 255]])
    if layout == "voc":
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/val.txt").write_text("1\n")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]")
    data = open_segmentation("auto", tmp_path)
    assert (data.layout, data.labels.classes) == (layout, ("ground", "thing"))
    assert data.mask(0).tolist() == [[0, 1], [1, 255]]
