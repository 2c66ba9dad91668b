from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from espnetv2 import images
from espnetv2.data.masks import index_codec
from espnetv2.errors import UserError
from espnetv2.finding import IMAGE_SUFFIXES
from espnetv2.images import as_rgb, picture_from_array, read_picture
from helpers import picture


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    found = np.asarray(read_picture(tmp_path / "deep.png"))
    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    assert found.shape == (1, 4, 3)


def test_16_bit_grey_that_pillow_gives_32_bits() -> None:
    values = np.array([[0, 257], [32_896, 65_535]], ">u2")
    with Image.open(io.BytesIO(b"P5 2 2 65535\n" + values.tobytes())) as opened:
        assert opened.mode == "I"
    assert np.asarray(read_picture(b"P5 2 2 65535\n" + values.tobytes()))[..., 0].tolist() == [[0, 1], [128, 255]]


def test_cmyk_becomes_rgb() -> None:
    found = read_picture(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=100))
    red, green, blue = np.asarray(found)[0, 0].tolist()
    assert red > 200
    assert max(green, blue) < 60


def test_palettes_and_single_channels_become_rgb() -> None:
    assert read_picture(encoded(picture(9, 9).quantize(16), "PNG")).mode == "RGB"
    assert np.asarray(read_picture(encoded(Image.new("L", (2, 2), 77), "PNG"))).max() == 77
    assert np.asarray(read_picture(encoded(Image.new("1", (2, 2), 1), "PNG"))).min() == 255


def test_transparency_is_laid_over_white() -> None:
    found = np.asarray(read_picture(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG")))
    assert found.min() == 255
    half = np.asarray(read_picture(encoded(Image.new("LA", (2, 2), (0, 128)), "PNG")))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


def test_the_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.new("RGB", (40, 20))
    source.paste((255, 255, 255), (0, 0, 20, 20))
    found = read_picture(encoded(source, "JPEG", exif=exif))
    assert found.size == (20, 40)
    assert np.asarray(found)[5, 10].min() > 200
    assert np.asarray(found)[35, 10].max() < 50


def test_odd_entries_beside_the_orientation_do_not_matter() -> None:
    """A width stored as text, as Pillow cannot write it again."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI4s", 0x0100, 2, 1, b"1")
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    content = encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif)
    with Image.open(io.BytesIO(content)) as opened, pytest.raises(struct.error):
        ImageOps.exif_transpose(opened)
    assert read_picture(content).size == (20, 40)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = [encoded(picture(5, 3), kind, exif=exif) for kind in ("PNG", "TIFF")]
    if 1 <= orientation <= 8:
        # The encoder takes no others.
        contents.append(encoded(picture(5, 3), "TIFF", exif=exif, compression="tiff_lzw"))
    with Image.open(io.BytesIO(contents[0])) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    for content in contents:
        assert np.array_equal(np.asarray(read_picture(content)), expected)
        with Image.open(io.BytesIO(content)) as opened:
            assert np.array_equal(np.asarray(as_rgb(opened)), expected)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    found = read_picture(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.asarray(found)[0, 0].tolist() == [255, 0, 0]


def test_extreme_sizes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_picture(encoded(Image.new("RGB", (1, 1)), "PNG")).size == (1, 1)
    assert read_picture(encoded(Image.new("L", (20_000, 5_000)), "PNG")).size == (20_000, 5_000)
    monkeypatch.setattr(images, "LARGEST_PIXELS", 1000)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=r"wide: more than .* million pixels"):
        read_picture(encoded(Image.new("L", (50, 50)), "PNG"), "wide")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_limit_does_not_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("PNG", "TIFF"):
        assert read_picture(encoded(Image.new("L", (50, 50)), kind)).size == (50, 50)


def test_an_image_that_does_not_fit_in_memory_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Image.Image) -> None:
        raise MemoryError

    content = encoded(picture(4, 4), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(UserError, match="big: not enough memory to decode it: split it into tiles"):
        read_picture(content, "big")
    with pytest.raises(UserError, match="big: not enough memory"):
        index_codec(2).decode(content, "big")


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    whole = encoded(picture(64, 64), "PNG")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    jpeg = encoded(picture(64, 64), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("F", (3, 3)).save(tmp_path / "float.tiff")
    Image.new("I", (3, 3)).save(tmp_path / "int.tiff")
    for name, reason in (
        ("cut.png", "damaged or truncated"),
        ("cut.jpg", "damaged or truncated"),
        ("empty.png", "the file is empty"),
        ("text.png", "not an image"),
        ("float.tiff", "floating-point pixels have no defined range: scale them"),
        ("int.tiff", "32-bit integer pixels have no defined range: scale them"),
        ("absent.png", "cannot be read"),
    ):
        with warnings.catch_warnings(), pytest.raises(UserError, match=f"{name}: .*{reason}"):
            read_picture(tmp_path / name)


def test_arrays() -> None:
    assert picture_from_array(np.zeros((4, 6, 3), np.uint8)).size == (6, 4)
    assert picture_from_array(np.full((4, 6), 65_535, np.uint16)).getpixel((0, 0)) == (255, 255, 255)
    assert picture_from_array(np.zeros((4, 6, 1), np.uint8)).mode == "RGB"
    assert picture_from_array(np.zeros((4, 6, 4), np.uint8)).getpixel((0, 0)) == (255, 255, 255)
    for wrong in (
        np.zeros((4, 6, 3), np.float32),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((0, 6, 3), np.uint8),
        np.zeros(5, np.uint8),
    ):
        with pytest.raises(UserError, match="is not an image"):
            picture_from_array(wrong)


def test_postscript_is_not_run() -> None:
    """Pillow hands it to Ghostscript, whatever the file is called."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n20 20 scale\nshowpage\n%%EOF\n"
    with pytest.raises(UserError, match=r"photo\.jpg: not an image that can be decoded"):
        read_picture(content, "photo.jpg")


def test_exactly_the_formats_of_the_known_suffixes_are_read() -> None:
    kinds = Image.registered_extensions()
    assert {kinds[suffix] for suffix in IMAGE_SUFFIXES} == set(images._FORMATS)
