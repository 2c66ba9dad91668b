from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.data import masks
from espnetv2.data.dataset import SegmentationData, file_blob
from espnetv2.data.layouts.description import Description
from espnetv2.data.masks import MaskCodec, index_codec
from espnetv2.errors import UserError
from espnetv2.labels import generic_labels


def tiff(values: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.asarray(values)).save(content, "TIFF")
    return content.getvalue()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_negative_values_are_unknown(kind: type) -> None:
    """Maps for geography have -1 or -9999 where there is nothing."""
    found = index_codec(3).inspect(tiff(np.array([[-1, 1], [2, -9999]], kind)), "a.tif")
    assert found.classes.tolist() == [[255, 1], [2, 255]]
    assert found.unknown == {-1, -9999}


@pytest.mark.parametrize("odd", [0.7, float("nan"), float("inf")])
def test_fractions_are_refused(odd: float) -> None:
    with pytest.raises(UserError, match=r"a\.tif: the mask contains fractions.*save it with integers"):
        index_codec(3).decode(tiff(np.array([[0, 1], [2, odd]], np.float32)), "a.tif")
    assert index_codec(3).decode(tiff(np.array([[0, 1], [2, 2]], np.float32)), "a.tif").tolist() == [[0, 1], [2, 2]]


def test_a_mask_is_turned_like_its_picture() -> None:
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(content, "PNG", exif=exif)
    assert index_codec(3).decode(content.getvalue(), "a.png").tolist() == [[0], [1], [2]]


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_a_palette_that_is_for_drawing_only_is_named_as_the_cause() -> None:
    mask = Image.fromarray(np.array([[0, 1]], np.uint8))
    mask.putpalette([0, 0, 0, 128, 0, 0])
    codec = Description(classes=["ground", "thing"], palette=[(0, 0, 0), (255, 0, 0)]).codec()
    with pytest.raises(UserError, match=r"\(128, 0, 0\): check the classes in dataset\.yaml, or write  rgb_masks: false"):
        codec.decode(png(mask), "a.png")


def test_black_and_white_of_one_bit_is_0_and_255() -> None:
    mask = png(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
    assert Description(classes={0: "ground", 255: "thing"}).codec().decode(mask, "a.png").tolist() == [[0, 1]]
    assert index_codec(2).decode(mask, "a.png").tolist() == [[0, 1]]


def test_a_mask_that_is_turned_against_its_picture(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 2), np.uint8)).save(tmp_path / "a.png")
    blob = file_blob(tmp_path / "a.png")
    data = SegmentationData("masks", "val", generic_labels(2), [(blob, blob)], index_codec(2))
    with pytest.raises(
        UserError, match="is 2x3, but its image is 3x2: one of them is rotated, perhaps by its EXIF orientation"
    ):
        data.mask(0, (3, 2))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_with_other_values_is_named_as_the_cause(mode: str) -> None:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 2, (16, 16), np.uint8) * 200
    Image.fromarray(noise).convert(mode).save(content, "JPEG")
    for codec in (index_codec(2), Description(classes=["a", "b"], palette=[(0, 0, 0), (200, 200, 200)]).codec()):
        with pytest.raises(UserError, match=r"a\.jpg: the mask is a JPEG, which has altered its values: .* as PNG"):
            codec.inspect(content.getvalue(), "a.jpg")
    flat = io.BytesIO()
    Image.new(mode, (16, 16), "black").save(flat, "JPEG")
    assert not index_codec(2).decode(flat.getvalue(), "a.jpg").any()


def test_a_mask_is_converted_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 4, (7, 5), np.uint8)
    colours = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9], [7, 7, 7]], np.uint8)[values]
    monkeypatch.setattr(masks, "_AT_ONCE", 10)
    expected = np.where(values == 3, 255, values)
    for codec, mask in ((index_codec(3), values), (MaskCodec({}, {(9, 0, 0): 0, (0, 9, 0): 1, (0, 0, 9): 2}), colours)):
        found = codec.inspect(tiff(mask), "a.tif")
        assert found.classes.tolist() == expected.tolist()
        assert found.unknown == ({3} if mask is values else {(7, 7, 7)})
