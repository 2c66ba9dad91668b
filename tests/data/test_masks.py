from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from espnetv2.data.masks import index_codec
from espnetv2.errors import UserError


def tiff(values: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.asarray(values)).save(content, "TIFF")
    return content.getvalue()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_negative_values_are_unknown(kind: type) -> None:
    """Maps for geography have -1 or -9999 where there is nothing."""
    classes, unknown = index_codec(3).inspect(tiff(np.array([[-1, 1], [2, -9999]], kind)), "a.tif")
    assert classes.tolist() == [[255, 1], [2, 255]]
    assert unknown == {-1, -9999}


@pytest.mark.parametrize("odd", [0.7, float("nan"), float("inf")])
def test_fractions_are_refused(odd: float) -> None:
    with pytest.raises(UserError, match=r"a\.tif: the mask holds fractions.*save it as whole numbers"):
        index_codec(3).decode(tiff(np.array([[0, 1], [2, odd]], np.float32)), "a.tif")
    assert index_codec(3).decode(tiff(np.array([[0, 1], [2, 2]], np.float32)), "a.tif").tolist() == [[0, 1], [2, 2]]


def test_a_mask_is_turned_like_its_picture() -> None:
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(content, "PNG", exif=exif)
    assert index_codec(3).decode(content.getvalue(), "a.png").tolist() == [[0], [1], [2]]
