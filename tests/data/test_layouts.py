from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.data.dataset import ClassificationData, SegmentationData, fingerprint
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.labels import CAMVID, CITYSCAPES, VOC
from helpers import SHAPE_CLASSES, make_folders, make_shapes, picture


def write_mask(path: Path, values: list[list[int]], *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.array(values, np.uint8))
    if palette:
        mask.putpalette(list(range(256)) * 3)
    mask.save(path)


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(2, 2).save(path)


def segmentation(layout: str, root: Path, split: str = "val") -> SegmentationData:
    data = open_dataset(layout, root, split)
    assert isinstance(data, SegmentationData)
    return data


def cityscapes_tree(root: Path, kind: str, values: list[list[int]]) -> Path:
    write_picture(root / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    write_mask(root / f"gtFine/val/ulm/ulm_000000_000019_gtFine_{kind}.png", values)
    return root


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    data = segmentation("auto", cityscapes_tree(tmp_path, "labelTrainIds", [[0, 18], [255, 3]]))
    assert (data.layout, data.labels) == ("cityscapes", CITYSCAPES)
    assert data.mask(0).tolist() == [[0, 18], [255, 3]]


def test_cityscapes_label_ids(tmp_path: Path) -> None:
    data = segmentation("cityscapes", cityscapes_tree(tmp_path, "labelIds", [[7, 33], [0, 11]]))
    assert data.mask(0).tolist() == [[0, 18], [255, 2]]


def test_label_ids_in_the_place_of_train_ids_are_recognised(tmp_path: Path) -> None:
    data = segmentation("cityscapes", cityscapes_tree(tmp_path, "labelTrainIds", [[7, 33], [23, 26]]))
    with pytest.raises(UserError, match=r"unknown label values 23, 26, 33: this looks like a labelIds file"):
        data.mask(0)


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
    data = segmentation("auto", tmp_path)
    assert (data.layout, data.labels) == ("voc", VOC)
    assert data.mask(0).tolist() == [[0, 20], [255, 1]]
    assert segmentation("voc", tmp_path, "trainaug").mask(0).tolist() == [[5, 5], [5, 5]]
    with pytest.raises(UserError, match=r'no split "tset".*; choose one of trainaug, val|did you mean'):
        open_dataset("voc", tmp_path, "tset")


def test_camvid(tmp_path: Path) -> None:
    write_picture(tmp_path / "val/a.jpg")
    write_mask(tmp_path / "valannot/a.png", [[0, 10], [11, 3]])
    data = segmentation("auto", tmp_path)
    assert (data.layout, data.labels) == ("camvid", CAMVID)
    assert data.mask(0).tolist() == [[0, 10], [255, 3]]


def test_ones_own_with_rgb_masks(tmp_path: Path) -> None:
    data = segmentation("auto", make_shapes(tmp_path))
    assert data.labels.classes == SHAPE_CLASSES
    assert set(np.unique(data.mask(0)).tolist()) <= {0, 1, 2}


def test_ones_own_with_index_masks_and_numbers_of_its_own(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/sub/a.jpg")
    write_mask(tmp_path / "masks/val/sub/a.png", [[3, 7], [9, 3]])
    (tmp_path / "dataset.yaml").write_text(
        "classes: {3: soil, 7: weed}\nignore_index: 9\npalette: ['#102030', '#ffffff']\nrgb_masks: false\n"
    )
    data = segmentation("masks", tmp_path)
    assert data.mask(0).tolist() == [[0, 1], [255, 0]]
    assert data.labels.palette == ((16, 32, 48), (255, 255, 255))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [a, b]\nclases: 3", 'unknown key "clases": did you mean "classes"'),
        ("classes: [a, a, b]", "names a class twice"),
        ("classes: [a, b]\nignore_index: -1", "ignore_index: input should be greater"),
        ("classes: [a]", "names 1 classes: two to 255"),
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
        ("classes: [", r"is not valid YAML: [^\n]+$"),
        ("palette: []", "classes: field required"),
    ],
)
def test_a_wrong_description_is_told(tmp_path: Path, text: str, message: str) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        open_dataset("masks", tmp_path, "val")


def test_black_and_white_have_values_of_their_own(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/a.jpg")
    write_mask(tmp_path / "masks/val/a.png", [[0, 255], [255, 0]])
    (tmp_path / "dataset.yaml").write_text("classes: {0: ground, 255: thing}\n")
    assert segmentation("masks", tmp_path).mask(0).tolist() == [[0, 1], [1, 0]]


def test_an_rgb_mask_without_a_palette_is_recognised(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    with pytest.raises(UserError, match=r"this is an RGB mask, but class indices are expected"):
        segmentation("masks", tmp_path).mask(0)


def test_a_mask_with_transparency_is_read(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]\n")
    Image.new("LA", (48, 32), (2, 255)).save(tmp_path / "masks/val/0.png")
    assert set(segmentation("masks", tmp_path).mask(0).ravel().tolist()) == {2}


def test_black_and_white_masks_are_read_by_the_palette(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=2)
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]\npalette: ['#000000', '#ffffff']\n")
    for number, mode in enumerate(("L", "1")):
        mask = Image.new("L", (2, 1))
        mask.putpixel((1, 0), 255)
        mask.convert(mode).save(tmp_path / f"masks/val/{number}.png")
        assert segmentation("masks", tmp_path).mask(number).tolist() == [[0, 1]]


def test_class_numbers_where_colours_are_expected_are_recognised(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    write_mask(tmp_path / "masks/val/0.png", [[0, 1], [2, 1]])
    with pytest.raises(UserError, match=r"class indices: write  rgb_masks: false"):
        segmentation("masks", tmp_path).mask(0)


def test_pictures_and_masks_have_any_picture_suffix(tmp_path: Path) -> None:
    write_picture(tmp_path / "leftImg8bit/val/x/a_leftImg8bit.PNG")
    write_mask(tmp_path / "gtFine/val/x/a_gtFine_labelTrainIds.bmp", [[0, 18]])
    assert segmentation("cityscapes", tmp_path).mask(0).tolist() == [[0, 18]]
    write_picture(tmp_path / "camvid/val/b.JPG")
    write_mask(tmp_path / "camvid/valannot/b.PNG", [[10, 11]])
    assert segmentation("camvid", tmp_path / "camvid").mask(0).tolist() == [[10, 255]]
    home = tmp_path / "VOC2012"
    write_picture(home / "JPEGImages/c.png")
    write_mask(home / "SegmentationClass/c.PNG", [[20, 255]])
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    (home / "ImageSets/Segmentation/val.txt").write_text("c\n")
    assert segmentation("voc", tmp_path).mask(0).tolist() == [[20, 255]]


def test_unknown_colours_are_named(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "masks/val/0.png")
    with pytest.raises(UserError, match=r"unknown label values \(1, 2, 3\): check the classes in dataset.yaml"):
        segmentation("masks", tmp_path).mask(0)


def test_the_authors_lists(tmp_path: Path) -> None:
    write_picture(tmp_path / "a/x.png")
    write_mask(tmp_path / "b/x_labelTrainIds.png", [[0, 18], [255, 3]])
    (tmp_path / "val.txt").write_text("a/x.png, b/x_labelTrainIds.png\n\n/a/x.png,/b/x_labelTrainIds.png\n")
    data = segmentation("auto", tmp_path)
    assert (data.layout, len(data), data.labels) == ("list", 2, CITYSCAPES)
    assert data.mask(1).tolist() == [[0, 18], [255, 3]]
    (tmp_path / "val.txt").write_text("a/x.png,b/absent.png\n")
    with pytest.raises(UserError, match="line 1: there is no file"):
        open_dataset("list", tmp_path, "val")


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


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 1 class folders: at least two are needed"):
        open_dataset("imagefolder", make_folders(tmp_path, classes=("only",)), "train")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def test_shards_for_classification(tmp_path: Path) -> None:
    for number in range(2):
        files = {}
        for sample in range(3):
            # What macOS puts beside a file.
            files[f"._s{number}{sample}.jpg"] = b""
            files[f"s{number}{sample}.jpg"] = encoded(picture(10 + sample, 8), "JPEG")
            files[f"s{number}{sample}.cls"] = str(sample % 2).encode()
        write_shard(tmp_path / f"train-{number:04d}.tar", files)
    (tmp_path / "classes.json").write_text(json.dumps(["even", "odd"]))
    data = open_dataset("auto", tmp_path, "train")
    assert isinstance(data, ClassificationData)
    assert (data.layout, len(data), data.labels.classes) == ("webdataset", 6, ("even", "odd"))
    assert [label for _, label in data.items] == [0, 1, 0, 0, 1, 0]
    assert data.items[5][0].picture().size == (12, 8)


def test_shards_for_segmentation(tmp_path: Path) -> None:
    mask = encoded(Image.fromarray(np.array([[0, 1], [255, 1]], np.uint8)), "PNG")
    for kind in ("mask.png", "png"):
        write_shard(tmp_path / "val" / "0.tar", {"x.jpg": encoded(picture(2, 2), "JPEG"), f"x.{kind}": mask})
        (tmp_path / "dataset.yaml").write_text("classes: [a, b]\n")
        data = segmentation("webdataset", tmp_path)
        assert data.mask(0).tolist() == [[0, 1], [255, 1]]
        assert data.pairs[0][0].picture().size == (2, 2)
    (tmp_path / "val" / "0.tar").write_bytes(b"no shard")
    with pytest.raises(UserError, match="damaged or not a tar file"):
        open_dataset("webdataset", tmp_path, "val")


@pytest.mark.parametrize(
    "files",
    [
        ("train/images/0.png", "train/masks/0.png", "val/images/1.png", "val/masks/1.png"),
        ("images/train/0.png", "labels/train/0.png"),
        ("a/Images/0.png", "a/Annotations/0.png"),
    ],
)
def test_pictures_beside_masks_are_no_classes(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        write_picture(tmp_path / name)
    with pytest.raises(UserError, match="looks like images with masks, which are expected in images/SPLIT and masks/SPLIT"):
        open_dataset("auto", tmp_path, "train")


def test_classes_may_be_called_as_masks_are(tmp_path: Path) -> None:
    for name in ("masks/0.png", "faces/1.png"):
        write_picture(tmp_path / "train" / name)
    assert open_dataset("auto", tmp_path, "train").labels.classes == ("faces", "masks")


def test_splits_that_are_no_folders(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=1)
    for kind in ("images", "masks"):
        (tmp_path / kind / "val" / "0.png").rename(tmp_path / kind / "0.png")
        shutil.rmtree(tmp_path / kind / "val")
        shutil.rmtree(tmp_path / kind / "train")
    with pytest.raises(UserError, match=r"move the images of each split into a folder such as .*images/train"):
        open_dataset("masks", tmp_path, "train")


def test_masks_without_a_picture_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_shapes(tmp_path, count=3)
    (tmp_path / "images/val/1.png").unlink()
    assert len(open_dataset("masks", tmp_path, "val")) == 2
    assert caplog.messages == [f"{tmp_path}/masks/val: skipped 1 masks without an image, the first is 1.png"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    make_shapes(tmp_path, count=2)
    (tmp_path / "masks/val/1.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images have no mask in .*masks/val, the first is .*images/val/1\.png"):
        open_dataset("masks", tmp_path, "val")
    with pytest.raises(UserError, match=r'no split "vall": .*did you mean "val"'):
        open_dataset("masks", tmp_path, "vall")
    with pytest.raises(UserError, match='no data set layout "mask": did you mean "masks"'):
        open_dataset("mask", tmp_path, "val")
    with pytest.raises(UserError, match='no folder "absent"'):
        open_dataset("masks", "absent", "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is not recognised: give one of cityscapes"):
        open_dataset("auto", tmp_path / "empty", "val")


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
    data = segmentation("auto", tmp_path)
    for number, folder in enumerate("ab"):
        assert data.pairs[number][0].path == tmp_path / pictures / folder / "1.jpg"
        assert data.mask(number).tolist() == [[number, number], [number, number]]


def test_voc_names_with_spaces_and_dots(tmp_path: Path) -> None:
    for name in ("frame 1", "frame.2"):
        write_picture(tmp_path / f"JPEGImages/{name}.jpg")
        write_mask(tmp_path / f"SegmentationClass/{name}.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("frame 1\nframe.2\n")
    assert [picture.path.stem for picture, _ in segmentation("voc", tmp_path).pairs] == ["frame 1", "frame.2"]


def test_a_voc_list_that_mixes_paths_and_other_things(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages/1.jpg")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    text = "JPEGImages/1.jpg SegmentationClass/1.png\nJPEGImages/2.jpg SegmentationClass/2.png\n"
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text(text)
    with pytest.raises(UserError, match=r'"JPEGImages/2\.jpg SegmentationClass/2\.png" is not a pair of files below'):
        open_dataset("voc", tmp_path, "val")


@pytest.mark.parametrize("layout", ["camvid", "voc"])
def test_classes_of_ones_own_in_the_layout_of_a_known_data_set(layout: str, tmp_path: Path) -> None:
    pictures, masks = ("val", "valannot") if layout == "camvid" else ("JPEGImages", "SegmentationClass")
    write_picture(tmp_path / pictures / "1.jpg")
    write_mask(tmp_path / masks / "1.png", [[0, 1], [1, 255]])
    if layout == "voc":
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/val.txt").write_text("1\n")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]")
    data = segmentation("auto", tmp_path)
    assert (data.layout, data.labels.classes) == (layout, ("ground", "thing"))
    assert data.mask(0).tolist() == [[0, 1], [1, 255]]


def test_a_split_without_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "JPEGImages/1.jpg")
    write_mask(tmp_path / "SegmentationClass/1.png", [[0, 0], [0, 0]])
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(UserError, match=r'the split "val" of .* has no images: fill its list'):
        open_dataset("auto", tmp_path, "val")


def test_links_are_followed_and_what_systems_leave_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_the_png_is_taken_of_two_masks(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val/1.jpg")
    write_mask(tmp_path / "masks/val/1.png", [[0, 1], [1, 0]])
    picture(2, 2).save(tmp_path / "masks/val/1.webp")
    (tmp_path / "dataset.yaml").write_text("classes: [ground, thing]")
    assert segmentation("auto", tmp_path).pairs[0][1].path.suffix == ".png"


def test_a_fingerprint_is_of_names_and_not_of_places(tmp_path: Path) -> None:
    splits = {}
    for place, names in (("a", "12"), ("b", "12"), ("c", "13")):
        for name in names:
            write_picture(tmp_path / place / "val" / f"{name}.jpg")
            write_mask(tmp_path / place / "valannot" / f"{name}.png", [[0, 1], [1, 0]])
        splits[place] = segmentation("camvid", tmp_path / place)
    assert fingerprint(splits["a"]) == fingerprint(splits["b"]) != fingerprint(splits["c"])
    assert fingerprint(splits["a"], splits["c"]) != fingerprint(splits["c"], splits["a"])
