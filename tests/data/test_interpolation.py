from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from espnetv2.data.check import check_split
from espnetv2.data.interpolation import is_interpolated
from espnetv2.data.layouts import open_dataset
from helpers import picture


def drawing() -> Image.Image:
    """Six classes, among them a line of one pixel."""
    mask = Image.new("L", (96, 64))
    draw = ImageDraw.Draw(mask)
    for value, box in ((5, (10, 10, 50, 50)), (3, (40, 20, 80, 60)), (1, (60, 4, 90, 30)), (4, (4, 40, 30, 60))):
        draw.ellipse(box, fill=value)
    draw.line((0, 63, 95, 0), fill=2)
    return mask


@pytest.mark.parametrize("size", [(48, 32), (64, 43), (192, 128)])
def test_interpolation_is_recognised(size: tuple[int, int]) -> None:
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
        assert is_interpolated(np.asarray(drawing().resize(size, method)))
    assert is_interpolated(np.asarray(drawing().resize(size, Image.Resampling.NEAREST))) is False


def test_borders_of_neighbouring_or_no_classes_say_nothing() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 1
    assert is_interpolated(mask) is None
    mask[:, 16:] = 255
    mask[:, 15] = 1
    assert is_interpolated(mask) is None
    assert is_interpolated(np.zeros((1, 1), np.uint8)) is None


@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.NEAREST])
def test_a_data_set_of_interpolated_masks(tmp_path: Path, method: Image.Resampling) -> None:
    for name in ("a", "b", "c"):
        for kind, image in (("images", picture(48, 32)), ("masks", drawing().resize((48, 32), method))):
            path = tmp_path / kind / "train" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c, d, e, f]\n")
    report = check_split(open_dataset("masks", tmp_path, "train"))
    told = [warning for warning in report.warnings if "interpolation" in warning]
    if method is Image.Resampling.NEAREST:
        assert not told
    else:
        assert "resized with interpolation: 3, such as" in told[0]
        assert "a.png: along borders they have classes" in told[0]
