from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import v2

from espnetv2.errors import UserError
from espnetv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, parse_size
from helpers import picture, released_entry


def torchvision_reference(resize: v2.Transform) -> v2.Compose:
    to_float = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return v2.Compose([resize, to_float])


def test_stretching_equals_torchvision() -> None:
    source = picture(101, 67)
    expected = torchvision_reference(v2.Resize((48, 64)))(source).numpy()
    found = Preprocessing(height=48, width=64)(source)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(320, 256), (256, 400), (512, 384)])
def test_cropping_equals_torchvision(size: tuple[int, int]) -> None:
    source = picture(*size)
    expected = torchvision_reference(v2.Compose([v2.Resize(256), v2.CenterCrop(224)]))(source).numpy()
    found = Preprocessing(height=224, width=224, fit="crop", crop_ratio=0.875)(source)
    # Rounding of 8-bit values and of the crop's corner.
    assert np.abs(found - expected).max() < 2.5 / 255 / min(IMAGENET_STD)


def test_cropping_a_very_long_picture_takes_little_memory() -> None:
    found = Preprocessing(height=32, width=32, fit="crop", crop_ratio=0.875)(picture(20_000, 3))
    assert found.shape == (3, 32, 32)


def test_the_psp_weights_get_bgr_and_the_second_scaling() -> None:
    preprocessing = released_entry("espnetv2_seg_psp_s0_5").preprocessing()
    source = Image.new("RGB", (1024, 512), (200, 100, 50))
    bgr = np.array([50, 100, 200], np.float64)
    mean = np.array([72.3923111, 82.90893555, 73.15840149])
    std = np.array([45.3192215, 46.15289307, 44.91483307])
    expected = (bgr - mean) / std / 255
    assert np.allclose(preprocessing(source)[:, 3, 5], expected, rtol=1e-5)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    source = picture(64, 48)
    assert Preprocessing(height=48, width=64).fit_picture(source) is source


def test_an_image_that_is_not_rgb_is_refused() -> None:
    with pytest.raises(UserError, match="has the mode RGBA, not RGB: convert it, or read it with "):
        Preprocessing(height=8, width=8)(Image.new("RGBA", (8, 8)))


def test_longer_sides_are_shrunk_first_and_shorter_ones_stay() -> None:
    preprocessing = Preprocessing(height=32, width=64, shrink_to=(32, 32))
    for size, coarse in (((200, 100), (32, 32)), ((200, 20), (32, 20)), ((32, 31), (32, 31))):
        source = picture(*size)
        small = source.resize(coarse, Image.Resampling.BICUBIC)
        expected = small.resize((64, 32), Image.Resampling.BILINEAR)
        assert preprocessing.fit_picture(source) == expected
    assert preprocessing.resized(64, 128).shrink_to == (32, 32)


@pytest.mark.parametrize(
    "change",
    [{"shrink_to": (0, 8)}, {"height": 0}, {"std": (0, 1, 1)}, {"colour": "red"}, {"channels": "GBR"}, {"crop_ratio": 2}],
)
def test_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"height": 8, "width": 8} | change)


def test_sizes_are_written_width_first() -> None:
    assert parse_size("1024x512") == (512, 1024)
    for text in ("1024", "1024x", "x", "0x5", "axb", "1x2x3", "-1x4", "1e3x4"):
        with pytest.raises(UserError, match="write WIDTHxHEIGHT"):
            parse_size(text)
