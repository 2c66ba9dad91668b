"""Draw a class map over its image, and a legend below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from espnetv2.fonts import font_for
from espnetv2.labels import Colour

OPACITY = 0.55
BAND_PIXELS = 2**22
NARROWEST_LEGEND = 320


def percent(share: float) -> str:
    """A share of 0 to 1 as readable text."""
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def blend(picture: Image.Image, colours: npt.NDArray[np.uint8], class_map: npt.NDArray[np.integer]) -> Image.Image:
    """The image mixed with each pixel's class colour, in bands of rows to save memory."""
    pixels = np.array(picture)
    tint = np.round(colours * OPACITY).astype(np.uint8)
    shade = np.round(np.arange(256) * (1 - OPACITY)).astype(np.uint8)
    rows = max(1, BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        band = slice(top, top + rows)
        pixels[band] = shade[pixels[band]] + tint[class_map[band]]
    return Image.fromarray(pixels)


def at_width(picture: Image.Image, width: int) -> Image.Image:
    """The image scaled to a width. Very tall ones are squashed, since sheets of them would be too large for any viewer."""
    return picture.resize((width, min(2 * width, max(1, round(picture.height * width / picture.width)))))


def with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The image with a panel below that shows each entry's colour and name, in as many columns as fit."""
    width = max(picture.width, NARROWEST_LEGEND)
    text_height = min(48, max(12, round(width / 70)))
    font = font_for("".join(text for text, _ in entries), text_height)
    gap, line = text_height // 2, round(text_height * 1.6)
    cell = 2 * line + gap + round(max(font.getlength(text) for text, _ in entries))
    columns = max(1, min(len(entries), (width - gap) // cell))
    rows = -(-len(entries) // columns)
    canvas = Image.new("RGB", (width, picture.height + rows * line + 2 * gap), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for index, (text, colour) in enumerate(entries):
        left = gap + (index % columns) * cell
        top = picture.height + gap + (index // columns) * line
        swatch = (left, top + line // 8, left + round(1.4 * text_height), top + line - line // 8)
        draw.rectangle(swatch, fill=colour, outline="black")
        draw.text((swatch[2] + gap, top + line / 2), text, fill="black", font=font, anchor="lm")
    return canvas


def with_caption(picture: Image.Image, text: str) -> Image.Image:
    """The image, its size unchanged, with a line of text in the upper left corner."""
    drawn = picture.copy()
    draw = ImageDraw.Draw(drawn)
    font = font_for(text, max(10, picture.height // 18))
    margin = max(2, picture.height // 60)
    box = draw.textbbox((margin, margin), text, font=font)
    draw.rectangle((0, 0, box[2] + margin, box[3] + margin), fill="black")
    draw.text((margin, margin), text, fill="white", font=font)
    return drawn
