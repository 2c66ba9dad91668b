"""The scripts that rearrange CamVid and Cityscapes for the measurements in docs/results.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import ROOT
from small_data import open_segmentation, write_picture


def script(name: str, *options: object) -> None:
    program = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, options)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def add(picture: Path, mask: Path, value: int) -> None:
    for path in (picture, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(picture)
    with Image.open(picture) as image:
        Image.new("L", image.size, value).save(mask)


def camvid(root: Path) -> Path:
    training = ("0016E5_00390", "0006R0_f00930", "0001TP_007590", "0001TP_007620")
    for split, stems in {"train": training, "val": ("0016E5_07959",)}.items():
        for stem in stems:
            add(root / split / f"{stem}.jpg", root / f"{split}annot/{stem}.png", 3)
    return root


def test_unseen_drives(tmp_path: Path) -> None:
    script("unseen_drive.py", "--data", camvid(tmp_path / "camvid"), "--out", tmp_path / "unseen")
    found = {
        split: [Path(picture.name).stem for picture, _ in open_segmentation("camvid", tmp_path / "unseen", split).pairs]
        for split in ("train", "val")
    }
    assert found == {"train": ["0001TP_007590", "0016E5_00390"], "val": ["0001TP_007620", "0006R0_f00930"]}


def test_a_mixture(tmp_path: Path) -> None:
    cityscapes = tmp_path / "cityscapes"
    # Values of the masks: car, rider, unlabelled. CamVid has car and bicyclist.
    for number, value in enumerate((13, 12, 255, 13, 13)):
        name = f"bonn_{number:06}_000019"
        mask = cityscapes / f"gtFine/train/bonn/{name}_gtFine_labelTrainIds.png"
        add(cityscapes / f"leftImg8bit/train/bonn/{name}_leftImg8bit.png", mask, value)
    script(
        "street_mixture.py", "--camvid", camvid(tmp_path / "camvid"), "--cityscapes", cityscapes, "--out", tmp_path / "mixture"
    )
    mixture = open_segmentation("camvid", tmp_path / "mixture", "train")
    masks = {Path(picture.name).name: mixture.mask(index) for index, (picture, _) in enumerate(mixture.pairs)}
    assert len(masks) == 4 + 5
    assert set(np.unique(masks["0016E5_00390_0.jpg"])) == {3}
    found = [set(np.unique(masks[f"bonn_{number:06}_000019_leftImg8bit.jpg"])) for number in range(3)]
    assert found == [{8}, {10}, {255}]
    assert masks["bonn_000000_000019_leftImg8bit.jpg"].shape == (256, 342)
    assert len(open_segmentation("camvid", tmp_path / "mixture", "val")) == 1


def test_borders_are_filled(tmp_path: Path) -> None:
    cityscapes, filled = tmp_path / "cityscapes", tmp_path / "filled"
    rows = np.full((32, 24), 8, np.uint8)
    rows[:, 12:] = 13
    # A border, an area that is too wide to be one, and a thin object whose colours were lost.
    rows[:, 10:14] = 255
    rows[16:, :7] = 255
    rows[4:12, 19] = 255
    # The mixture of two colours is that of a truck, as long as it is narrow.
    rows[:14, 11] = 14
    rows[:3, :3] = 14
    # In front of trees, a thin object of this height was a pole.
    rows[7:15, 6] = 255
    rows[9:15, 2] = 255
    # The mixture of terrain and road has a pole's colour.
    rows[20:, 16:] = np.repeat([9, 5, 0], [4, 1, 7])[:, None]
    # Of labelIds 7, 17, 21, 22, 26 and 27 are the same classes.
    train_ids = [rows == index for index in (0, 5, 8, 9, 13, 14)]
    ids = np.select(train_ids, [7, 17, 21, 22, 26, 27], 0).astype(np.uint8)
    for split, name, values in (("train", "labelTrainIds", rows), ("val", "labelIds", ids)):
        mask = cityscapes / f"gtFine/{split}/bonn/bonn_0_gtFine_{name}.png"
        add(cityscapes / f"leftImg8bit/{split}/bonn/bonn_0_leftImg8bit.png", mask, 0)
        Image.fromarray(values).save(mask)
    empty = cityscapes / "gtFine/train/bonn/bonn_1_gtFine_labelTrainIds.png"
    add(cityscapes / "leftImg8bit/train/bonn/bonn_1_leftImg8bit.png", empty, 255)
    script("fill_borders.py", "--data", cityscapes, "--out", filled)
    for split in ("train", "val"):
        found = open_segmentation("cityscapes", filled, split).mask(0)
        assert (found[6:16, 6] == [8, *[5] * 8, 8]).all()
        assert (found[9:15, 2] == 255).all()
        assert (found == 5).sum() == 8
        assert set(found[20:24, 17:].flat) == {9}
        assert set(found[25:, 17:].flat) == {0}
        assert (found[:14, 4:12][:, [0, 1, 3, 4, 5, 6, 7]] == 8).all()
        assert (found[:3, :3] == 14).all()
        assert (found == 14).sum() == 9
        assert (found[:, 12:16] == 13).all()
        assert (found[18:, :7] == 255).all()
        assert (found[4:12, 19] == 255).all()
    assert (open_segmentation("cityscapes", filled, "train").mask(1) == 255).all()


def test_rare_classes_are_repeated(tmp_path: Path) -> None:
    cityscapes, repeated = tmp_path / "cityscapes", tmp_path / "repeated"
    few = np.zeros((8, 8), np.uint8)
    few[:7, :7] = 12
    rider, none, road = (np.full_like(few, value) for value in (12, 255, 0))
    # Riders have enough pixels in one image of ten: sqrt(0.4 / 0.1) = 2 copies.
    for split, masks in (("train", [rider, few, none, *[road] * 7]), ("val", [rider])):
        for number, mask in enumerate(masks):
            path = cityscapes / f"gtFine/{split}/bonn/bonn_{number:06}_000019_gtFine_labelTrainIds.png"
            add(cityscapes / f"leftImg8bit/{split}/bonn/bonn_{number:06}_000019_leftImg8bit.png", path, 0)
            Image.fromarray(mask).save(path)
    script("repeat_rare.py", "--data", cityscapes, "--out", repeated)
    train = open_segmentation("cityscapes", repeated, "train")
    assert sum((train.mask(index) == 12).all() for index in range(len(train))) == 2
    assert len(train) == 11
    assert len(open_segmentation("cityscapes", repeated, "val")) == 1
