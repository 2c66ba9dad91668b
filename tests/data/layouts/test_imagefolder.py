from __future__ import annotations

import os
from pathlib import Path

import pytest

from espnetv2.data.dataset import ClassificationData
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from helpers import picture
from small_data import make_folders, write_picture, write_shard


def test_image_folders(tmp_path: Path) -> None:
    data = open_dataset("auto", make_folders(tmp_path), "train")
    assert isinstance(data, ClassificationData)
    assert (data.layout, data.labels.classes, len(data)) == ("imagefolder", ("dark", "light"), 8)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(UserError, match=r"no images below .*empty"):
        open_dataset("imagefolder", tmp_path, "train")


def test_folders_called_by_wordnet_number_are_named(tmp_path: Path) -> None:
    data = open_dataset("auto", make_folders(tmp_path, classes=("n01440764", "n03888257")), "train")
    assert data.labels.classes == ("tench", "parachute")


def test_a_readme_and_a_download_are_no_data_set(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\n")
    write_shard(tmp_path / "imagenette2-160.tar", {"readme.txt": b"pictures"})
    assert open_dataset("auto", tmp_path, "train").layout == "imagefolder"


@pytest.mark.parametrize("layout", ["auto", "imagefolder"])
def test_class_folders_without_splits_are_told(layout: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_picture(tmp_path / name / "a.jpg")
    with pytest.raises(UserError, match=r"looks like class folders that are not split: .*train/CLASS .*val/CLASS"):
        open_dataset(layout, tmp_path, "train")


def test_training_images_are_not_suggested_for_validation(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_picture(tmp_path / "train" / name / "a.jpg")
    with pytest.raises(UserError, match=r"move the images of each split into a folder such as .*/val$"):
        open_dataset("imagefolder", tmp_path, "val")


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 1 class folders: at least two are needed"):
        open_dataset("imagefolder", make_folders(tmp_path, classes=("only",)), "train")


@pytest.mark.parametrize(
    "files",
    [
        ("train/images/0.png", "train/masks/0.png", "val/images/1.png", "val/masks/1.png"),
        ("images/train/0.png", "labels/train/0.png"),
        ("a/Images/0.png", "a/Annotations/0.png"),
        ("train/img/0.png", "train/ann/0.png"),
        ("img_dir/train/0.png", "ann_dir/train/0.png"),
        ("img/train/0.png", "gt/train/0.png"),
    ],
)
def test_images_beside_masks_are_no_classes(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        write_picture(tmp_path / name)
    with pytest.raises(UserError, match="looks like images with masks, which are expected in images/SPLIT and masks/SPLIT"):
        open_dataset("auto", tmp_path, "train")


def test_images_in_no_class_folder_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_folders(tmp_path)
    write_picture(tmp_path / "val/loose.png")
    assert len(open_dataset("imagefolder", tmp_path, "val")) == 8
    assert "val: left out 1 images that are in no class folder, the first is loose.png" in caplog.text


def test_a_class_may_be_called_masks(tmp_path: Path) -> None:
    for name in ("masks/0.png", "faces/1.png"):
        write_picture(tmp_path / "train" / name)
    assert open_dataset("auto", tmp_path, "train").labels.classes == ("faces", "masks")


def test_links_are_followed_and_system_files_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    for name in ("cat/1.jfif", "cat/.ipynb_checkpoints/1-checkpoint.png", "dog/@eaDir/2.jpg", "dog/2.jpg", "__MACOSX/3.jpg"):
        (root / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(2, 2).save(root / "val" / name, "JPEG" if name.endswith(".jfif") else None)
    write_picture(tmp_path / "elsewhere/4.jpg")
    (root / "val/dog/more").symlink_to(tmp_path / "elsewhere")
    (root / "val/dog/back").symlink_to(root / "val/dog")
    (root / "val/dog/gone.jpg").symlink_to(tmp_path / "absent.jpg")
    data = open_dataset("imagefolder", root, "val")
    assert isinstance(data, ClassificationData)
    assert data.labels.classes == ("cat", "dog")
    assert [(picture.path.name, index) for picture, index in data.items] == [("1.jfif", 0), ("2.jpg", 1), ("4.jpg", 1)]
    assert "skipped 1 broken links" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_class_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"tea"):
        write_picture(tmp_path / "val" / os.fsdecode(name) / "1.jpg")
    with pytest.raises(UserError, match=r'the class name "caf\\udce9" is not valid UTF-8: rename'):
        open_dataset("imagefolder", tmp_path, "val")
