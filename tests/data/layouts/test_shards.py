from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.data.dataset import ClassificationData
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from helpers import picture
from small_data import open_segmentation, write_shard


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_hidden_files_beside_shards_are_no_shards(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    files = {"s.jpg": encoded(picture(8, 8), "JPEG"), "s.cls": b"0", "t.jpg": encoded(picture(8, 8), "JPEG"), "t.cls": b"1"}
    write_shard(tmp_path / "train/0000.tar", files)
    (tmp_path / "train/._0000.tar").write_bytes(b"\0\5\x16\7")
    assert len(open_dataset("auto", tmp_path, "train")) == 2


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
        data = open_segmentation("webdataset", tmp_path)
        assert data.mask(0).tolist() == [[0, 1], [255, 1]]
        assert data.pairs[0][0].picture().size == (2, 2)
    (tmp_path / "val" / "0.tar").write_bytes(b"no shard")
    with pytest.raises(UserError, match="damaged or not a tar file"):
        open_dataset("webdataset", tmp_path, "val")
    write_shard(tmp_path / "val" / "0.tar", {"x.mask.png": mask})
    with pytest.raises(UserError, match=r"x\.mask\.png.*: its sample has no image: add one such as \.jpg"):
        open_dataset("webdataset", tmp_path, "val")


def test_one_class_is_no_classification(tmp_path: Path) -> None:
    write_shard(tmp_path / "val" / "0.tar", {"x.jpg": encoded(picture(2, 2), "JPEG"), "x.cls": b"0"})
    with pytest.raises(UserError, match="have one class only: at least two are needed"):
        open_dataset("webdataset", tmp_path, "val")


@pytest.mark.parametrize(
    ("index", "reason"),
    [(str(10**9), "class 1000000000 would be one of more than 100000"), ("9" * 5000, "is not a class index")],
)
def test_absurd_class_indices(tmp_path: Path, index: str, reason: str) -> None:
    files = {
        "s.jpg": encoded(picture(8, 8), "JPEG"),
        "s.cls": b"0",
        "t.jpg": encoded(picture(8, 8), "JPEG"),
        "t.cls": index.encode(),
    }
    write_shard(tmp_path / "train.tar", files)
    with pytest.raises(UserError, match=reason):
        open_dataset("webdataset", tmp_path, "train")


def test_the_splits_that_there_are_are_named(tmp_path: Path) -> None:
    for name in ("train-000.tar", "train-001.tar", "valid/0.tar"):
        write_shard(tmp_path / name, {"s.jpg": encoded(picture(8, 8), "JPEG"), "s.cls": b"0"})
    with pytest.raises(UserError, match=r'no split "val": there is no file .*val-\*\.tar or .*; did you mean "valid"\?'):
        open_dataset("webdataset", tmp_path, "val")
    with pytest.raises(UserError, match="choose one of train, valid"):
        open_dataset("webdataset", tmp_path, "X")


@pytest.mark.parametrize("split", ["**", "t*", "/train"])
def test_splits_that_are_patterns_or_paths(tmp_path: Path, split: str) -> None:
    write_shard(tmp_path / "train.tar", {"s.jpg": encoded(picture(8, 8), "JPEG"), "s.cls": b"0"})
    with pytest.raises(UserError, match="no split"):
        open_dataset("webdataset", tmp_path, split)
