from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.data import check
from espnetv2.data.check import check_split, contact_sheet
from espnetv2.data.layouts import open_dataset
from helpers import Run, picture
from small_data import make_folders, make_shapes, write_mask


def test_a_good_data_set(tmp_path: Path) -> None:
    report = check_split(open_dataset("masks", make_shapes(tmp_path), "train"))
    assert report.errors == report.warnings == []
    assert report.looked_at == report.images == 6
    assert report.sizes == {(48, 32): 6}
    assert sum(report.frequencies.values()) == 1
    assert report.frequencies["background"] > 0.5


def test_frequencies_are_of_labelled_pixels(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    values = np.array([[0, 0, 0, 1], [255, 255, 255, 255]], np.uint8)
    for folder in ("images", "masks"):
        Image.fromarray(values).save(tmp_path / folder / "val" / "0.png")
    report = check_split(open_dataset("masks", tmp_path, "val"))
    assert report.frequencies == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert report.unlabelled == 0.5
    assert report.warnings == ["classes that never occur in the split val: c"]


def test_problems_are_told_with_files(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    masks = tmp_path / "masks/train"
    Image.new("RGB", (48, 32), (9, 9, 9)).save(masks / "0.png")
    Image.new("RGB", (48, 32), (9, 9, 9)).save(masks / "1.png")
    Image.new("RGB", (24, 32)).save(masks / "2.png")
    (masks / "3.png").write_bytes(b"broken")
    report = check_split(open_dataset("masks", tmp_path, "train"))
    text = "\n".join(report.errors)
    assert "2.png is 24x32, but its image is 48x32" in text
    assert "3.png: the mask is damaged" in text
    assert "unknown label values: (9, 9, 9) in 2 files such as" in text
    assert len(report.errors) == 3


def test_a_stated_scale_of_the_masks(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    for path in (tmp_path / "masks/train").iterdir():
        Image.new("RGB", (24, 16)).save(path)
    Image.new("RGB", (24, 16), (255, 0, 0)).save(tmp_path / "masks/train/0.png")
    assert len(check_split(open_dataset("masks", tmp_path, "train")).errors) == 6
    assert check_split(open_dataset("masks", tmp_path, "train", mask_scale=0.5)).errors == []


def test_a_single_class_is_an_error(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=2)
    for path in (tmp_path / "masks/val").iterdir():
        Image.new("RGB", (48, 32)).save(path)
    assert "at least two classes are needed" in check_split(open_dataset("masks", tmp_path, "val")).errors[0]


def test_a_rare_class_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six masks the first and the last, which a quick look sees, are all background."""
    make_shapes(tmp_path)
    for name in ("0", "5"):
        Image.new("RGB", (48, 32)).save(tmp_path / f"masks/train/{name}.png")
    monkeypatch.setattr(check, "QUICK_SAMPLES", 2)
    report = check_split(open_dataset("masks", tmp_path, "train"), quick=True)
    assert report.errors == []
    assert report.looked_at == 6


def test_classification(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "val/dark/0.png").write_bytes(b"")
    report = check_split(open_dataset("auto", tmp_path, "val"))
    assert report.frequencies == {"dark": 0.5, "light": 0.5}
    assert len(report.errors) == 1
    assert "the file is empty" in report.errors[0]


def test_the_contact_sheet_shows_labels(tmp_path: Path) -> None:
    sheet = contact_sheet(open_dataset("masks", make_shapes(tmp_path), "val"), count=4)
    assert sheet.width == 4 * 320
    colours = np.asarray(sheet)[:200].reshape(-1, 3).astype(int)
    assert ((colours[:, 0] > 150) & (colours[:, 1] < 120)).any()
    assert contact_sheet(open_dataset("auto", make_folders(tmp_path / "c"), "val"), count=3).height > 100


def test_unknown_colours_beside_unknown_numbers(tmp_path: Path) -> None:
    masks = make_shapes(tmp_path) / "masks/train"
    Image.new("RGB", (48, 32), (9, 9, 9)).save(masks / "0.png")
    Image.fromarray(np.full((32, 48), 300, np.uint16)).save(masks / "1.png")
    (error,) = check_split(open_dataset("masks", tmp_path, "train")).errors
    assert "300 in 1 file such as" in error
    assert "(9, 9, 9) in 1 file such as" in error


def test_a_very_tall_image_does_not_make_a_tall_sheet(tmp_path: Path) -> None:
    make_folders(tmp_path)
    picture(1, 2000).save(next((tmp_path / "val").rglob("*.*")))
    assert contact_sheet(open_dataset("auto", tmp_path, "val"), count=3).height < 1000


def test_the_command(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert "train: 6 images, layout masks" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train.png", "val.png"]
    picture(48, 32).save(tmp_path / "data/masks/val/0.png")
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "val", "--json")
    assert done.code == 2
    assert "unknown label values" in done.stderr
    assert len(json.loads(done.stdout)[0]["errors"]) == 1
    for path in (tmp_path / "data/masks/val").iterdir():
        Image.new("RGB", (48, 32), (9, 9, 9)).save(path)
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out2", "--split", "val")
    assert "unknown label values: (9, 9, 9) in 6 files" in done.stderr
    assert run("check-data", "--data", tmp_path / "data", "--split", "test").code == 2


def test_only_its_own_sheets_are_replaced(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    for code in (0, 0):
        assert run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out").code == code
    picture(8, 8).save(tmp_path / "out/val.png")
    before = (tmp_path / "out/val.png").read_bytes()
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == 2
    assert "val.png already exists and was not written by this version of the program: remove it" in done.stderr
    assert (tmp_path / "out/val.png").read_bytes() == before


def test_a_scale_without_end_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("check-data", "--data", make_shapes(tmp_path), "--mask-scale", "inf")
    assert done.code == 2
    assert "--mask-scale" in done.stderr


def test_masks_whose_palettes_differ(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    (tmp_path / "dataset.yaml").write_text("classes: [background, square, disc]\n")
    for path in (tmp_path / "masks/train").iterdir():
        # Each file numbers its colours in its own order.
        Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=3).save(path)
    mask = Image.open(tmp_path / "masks/train/0.png")
    swapped = mask.remap_palette([2, 1, 0])
    swapped.save(tmp_path / "masks/train/0.png")
    (warning,) = check_split(open_dataset("masks", tmp_path, "train")).warnings
    assert warning.startswith("masks draw the value 0 in different colours, (")
    assert warning.endswith("list them as palette in dataset.yaml, without rgb_masks: false")


def test_splits_whose_palettes_differ(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    (tmp_path / "data/dataset.yaml").write_text("classes: [background, square, disc]\n")
    for split, order in (("train", [0, 1, 2]), ("val", [2, 1, 0])):
        for path in (tmp_path / "data/masks" / split).iterdir():
            Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=3).remap_palette(order).save(path)
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == 0
    assert done.stdout.count("masks draw the value 0 in different colours, (") == 1


def test_masks_of_one_palette_are_in_order(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    (tmp_path / "dataset.yaml").write_text("classes: [background, square]\n")
    for path in (tmp_path / "masks/train").iterdir():
        write_mask(path, (np.arange(32 * 48).reshape(32, 48) % 2).tolist(), palette=True)
    assert check_split(open_dataset("masks", tmp_path, "train")).warnings == []


def test_transparent_pixels_of_a_mask_are_told(tmp_path: Path) -> None:
    make_shapes(tmp_path)
    path = tmp_path / "masks/train/4.png"
    mask = Image.open(path).convert("RGBA")
    mask.save(tmp_path / "masks/train/5.png")
    mask.putalpha(Image.linear_gradient("L").resize(mask.size))
    mask.save(path)
    Image.open(tmp_path / "masks/train/3.png").convert("P").save(tmp_path / "masks/train/3.png", transparency=0)
    (warning,) = check_split(open_dataset("masks", tmp_path, "train")).warnings
    assert warning.startswith("masks with transparent pixels: 2, such as ")
    assert "3.png: the colours of such pixels count" in warning


def test_images_that_are_turned_unlike_their_masks_are_told(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = 3
    image, mask = (tmp_path / "data" / kind / "val/0.png" for kind in ("images", "masks"))
    with Image.open(image) as stored:
        stored.save(image, exif=exif)
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "val")
    assert done.code == 0
    assert f"images turned by their EXIF orientation, unlike their masks: 1, such as {image}: " in done.stdout
    with Image.open(mask) as stored:
        stored.save(mask, exif=exif)
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "val")
    assert "EXIF" not in done.stdout


def test_images_in_both_splits_are_told(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    for folder in ("images", "masks"):
        for copy in ("8.png", "9.png"):
            shutil.copy(tmp_path / f"data/{folder}/train/3.png", tmp_path / f"data/{folder}/val/{copy}")
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == 0
    assert "note: images of val that are in train, too: 2 of 8, such as " in done.stdout
    assert f"{Path('val/8.png')} and {tmp_path / 'data/images/train/3.png'}: " in done.stdout
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--json")
    assert ["are in train, too" in "".join(report["warnings"]) for report in json.loads(done.stdout)] == [False, True]


def test_masks_with_smoothed_edges_are_drawn_and_explained(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    for path in (tmp_path / "data/masks/val").iterdir():
        mask = Image.open(path)
        mask.resize((24, 16)).resize(mask.size, Image.Resampling.BILINEAR).save(path)
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "val")
    assert done.code == 2
    assert "antialiasing" in done.stderr
    assert (tmp_path / "out/val.png").is_file()


def test_few_of_many_mistakes_are_printed(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data", count=14)
    for path in (tmp_path / "data/masks/val").iterdir():
        path.write_bytes(b"no picture")
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "val")
    assert done.code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 11
    assert "and 4 more: --json lists all of them" in lines[-1]


def test_splits_with_different_classes_are_told(run: Run, tmp_path: Path) -> None:
    make_folders(tmp_path, classes=("a", "b"))
    (tmp_path / "val/b").rename(tmp_path / "val/zebra")
    done = run("check-data", "--data", tmp_path, "--out", tmp_path / "out")
    assert done.code == 2
    assert done.stderr.count("the splits have different classes: val lacks b of train") == 1
    done = run("check-data", "--data", tmp_path, "--out", tmp_path / "out", "--json")
    assert [len(report["errors"]) for report in json.loads(done.stdout)] == [0, 1]


def test_names_and_folders_are_shown_as_they_are(run: Run, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    description = tmp_path / "data/dataset.yaml"
    description.write_text(description.read_text().replace("disc", "'[/disc]'"))
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder / "val").rename(tmp_path / "data" / folder / "b")
        (tmp_path / "data" / folder / "a").mkdir()
        (tmp_path / "data" / folder / "b").rename(tmp_path / "data" / folder / "a/b")
    done = run("check-data", "--data", tmp_path / "data", "--out", tmp_path / "out", "--split", "a/b")
    assert done.code == 0, done.stderr
    assert "[/disc]" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_b.png"]
