from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image, ImageDraw

from espnetv2.fonts import font_for


def drawn(text: str, font: str) -> bytes:
    """A text in the font for another one."""
    canvas = Image.new("L", (300, 40))
    ImageDraw.Draw(canvas).text((2, 2), text, fill=255, font=font_for(font, 20))
    return np.asarray(canvas).tobytes()


def test_letters_beyond_english_are_not_all_the_same_box() -> None:
    assert drawn("ß", "ß") != drawn("ä", "ä")
    assert drawn("д", "д") != drawn("ж", "ж")
    assert drawn("ß", "plain") == drawn("ä", "plain")


def test_letters_that_no_font_has_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for share in ("1", "2"):
            font_for(f"road \U0010fffe {share}", 12)
        font_for("weg \U0010fffe ß", 12)
    assert [record.message.count("no font on this machine has the letters") for record in caplog.records] == [1]
