"""A font that has the letters of a text: Pillow's own has only those of English."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

_NO_LETTER = "\U0010ffff"
"""Drawn as the sign of a font for letters that it lacks."""
_COMMON = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf"),
    *("Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    *("msyh.ttc", "msgothic.ttc", "malgun.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
)
"""Pillow looks for these in the system's folders of fonts."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
log = logging.getLogger(__name__)


def font_for(text: str, size: int) -> Font:
    """A font of ``size`` pixels with all letters of a text, if the machine has one; the log tells if it has none."""
    foreign = "".join(sorted({letter for letter in text if not letter.isascii()}))
    file = _file_for(foreign) if foreign else None
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


@lru_cache
def _file_for(letters: str) -> str | None:
    best, lacking = None, _lacks(ImageFont.load_default(16), letters)
    for file in _candidates():
        try:
            found = _lacks(ImageFont.truetype(file, 16), letters)
        except OSError:
            continue
        if len(found) < len(lacking):
            best, lacking = file, found
        if not lacking:
            return best
    _warn(lacking)
    return best


@lru_cache
def _warn(lacking: str) -> None:
    log.warning("no font on this machine has the letters %s: boxes are drawn instead; install DejaVu or Noto fonts", lacking)


def _candidates() -> Iterator[str]:
    yield from _COMMON
    spec = find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        yield str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


def _lacks(font: Font, letters: str) -> str:
    sign = bytes(font.getmask(_NO_LETTER))
    return "".join(letter for letter in letters if bytes(font.getmask(letter)) == sign)
