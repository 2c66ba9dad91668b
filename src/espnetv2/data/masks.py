"""Decode mask files to class indices: index masks, label ids, RGB masks. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.images import decoding, open_picture, upright
from espnetv2.labels import CITYSCAPES_LABEL_IDS, IGNORE, Colour

MAX_CLASSES = 255
_UNKNOWN = 256
_SHOWN = 8
_AT_ONCE = 1 << 20
_FEW = 8
"""More unknown values or colours than these are probably mixed ones."""
_LOSSY = {"JPEG", "MPO"}
_NO_MASK = "the mask is damaged or not an image"
_COLOUR_MODES = {"RGB", "RGBA", "CMYK", "YCbCr"}
_GREY_MODES = {"1", "L", "P"}
"""If colours are expected, these are read as colours too, such as black and white."""
Value = TypeVar("Value", int, Colour)
Converted = tuple[npt.NDArray[np.uint8], set[Value]]


@dataclass(frozen=True)
class Inspection:
    """What a mask file holds.

    Attributes:
        classes: class of every pixel (H, W).
        unknown: values that are no classes; such pixels have 255.
        stored: the mask as it is in the file, upright.
        turn: how its EXIF orientation rotated or flipped it; None if not.
        by_colour: whether its colours were read, and not its values.
    """

    classes: npt.NDArray[np.uint8]
    unknown: set[int] | set[Colour]
    stored: Image.Image
    turn: Image.Transpose | None
    by_colour: bool

    def palette(self) -> tuple[Colour, ...]:
        """How an image whose values were read draws them; empty if it has no palette."""
        channels = self.stored.getpalette("RGB") if self.stored.mode == "P" and not self.by_colour else None
        return tuple(zip(*[iter(channels or ())] * 3, strict=True))

    def is_transparent(self) -> bool:
        """Whether pixels are transparent, wholly or in part."""
        return self.stored.has_transparency_data and self.stored.convert("RGBA").getchannel("A").getextrema()[0] != 255


@dataclass(frozen=True)
class MaskCodec:
    """How the values of a data set's masks map to classes.

    Attributes:
        values: stored value -> class index, or 255 for "no class".
        colours: the same for RGB masks; None if masks store values.
        hint: what to check if unknown values are found.
    """

    values: Mapping[int, int]
    colours: Mapping[Colour, int] | None = None
    hint: str = "check the class list"

    def decode(self, content: bytes, name: str) -> npt.NDArray[np.uint8]:
        """Class of every pixel (H, W) of a mask file.

        Raises:
            UserError: it is damaged, of the wrong kind, or contains unknown values.
        """
        found = self.inspect(content, name)
        if unknown := found.unknown:
            shown = ", ".join(str(value) for value in sorted(unknown)[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
            raise UserError(f"{name}: unknown label values {shown}: {self.advice(unknown)}")
        return found.classes

    def inspect(self, content: bytes, name: str) -> Inspection:
        """Like ``decode``, but unknown values become 255 and are returned, with what else matters for a check.

        Raises:
            UserError: the file is damaged, of the wrong kind, or a JPEG with values that are no classes.
        """
        with decoding(name, damaged=_NO_MASK, unknown=_NO_MASK), open_picture(content) as opened:
            lossy = opened.format in _LOSSY
            stored, turn = upright(opened)
            mask = stored
            if mask.mode in ("LA", "La", "PA"):
                mask = mask.getchannel(0)
            kinds = _COLOUR_MODES if self.colours is None else _COLOUR_MODES | _GREY_MODES
            colourful = mask.mode in kinds
            if mask.mode == "1" and not colourful and 1 not in self.values and 255 in self.values:
                # Black and white are 0 and 255 in masks with more than one bit.
                mask = mask.convert("L")
            pixels = np.asarray(mask.convert("RGB")) if colourful else np.asarray(mask)
        try:
            classes, unknown = self._classes(pixels, name, colourful=colourful)
        except UserError:
            if lossy:
                raise UserError(_altered(name)) from None
            raise
        if unknown and lossy:
            raise UserError(_altered(name))
        return Inspection(classes, unknown, stored, turn, colourful)

    def advice(self, unknown: set[int] | set[Colour]) -> str:
        """What probably went wrong, given the unknown values."""
        if len(unknown) > MAX_CLASSES:
            return "these are too many for classes: save masks as PNG, never as JPEG, and without smoothed edges (antialiasing)"
        numbers = {value for value in unknown if isinstance(value, int)}
        label_ids = set(range(34))
        if numbers and numbers <= label_ids and numbers & set(CITYSCAPES_LABEL_IDS) and "trainIds" in self.hint:
            return "this looks like a labelIds file, but trainIds are expected"
        if unknown and all(
            isinstance(value, tuple) and len(set(value)) == 1 and value[0] <= len(self.values) for value in unknown
        ):
            return "these look like class indices: write  rgb_masks: false  in dataset.yaml if the palette is only for drawing"
        mixed = "values" if self.colours is None else "colours"
        smooth = f"; edges must not be smoothed, which mixes {mixed} (antialiasing)" if len(unknown) > _FEW else ""
        if self.colours is not None and "dataset.yaml" in self.hint:
            return f"{self.hint}, or write  rgb_masks: false  there if the palette is only for drawing{smooth}"
        return self.hint + smooth

    def _classes(
        self, pixels: npt.NDArray[Any], name: str, *, colourful: bool
    ) -> tuple[npt.NDArray[np.uint8], set[int] | set[Colour]]:
        if not colourful:
            if pixels.dtype.kind == "f" and not (np.isfinite(pixels) & (pixels == np.trunc(pixels))).all():
                raise UserError(f"{name}: the mask contains fractions, but class indices are expected: save it with integers")
            return _by_rows(pixels, self._from_values)
        if self.colours is not None:
            return _by_rows(pixels, partial(self._from_colours, colours=self.colours))
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
            return _by_rows(pixels[..., 0], self._from_values)
        raise UserError(
            f"{name}: this is an RGB mask, but class indices are expected: list the colours as palette in dataset.yaml"
        )

    @cached_property
    def _table(self) -> npt.NDArray[np.uint16]:
        table = np.full(65_536, _UNKNOWN, np.uint16)
        for value, index in self.values.items():
            table[value] = index
        return table

    def _from_values(self, pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], set[int]]:
        values = pixels.astype(np.int64)
        classes = self._table[values.clip(0, 65_535)]
        unknown = (classes == _UNKNOWN) | (values < 0) | (values > 65_535)
        found = {int(value) for value in np.unique(values[unknown])} if unknown.any() else set()
        return np.where(unknown, IGNORE, classes).astype(np.uint8), found

    def _from_colours(
        self, pixels: npt.NDArray[np.uint8], colours: Mapping[Colour, int]
    ) -> tuple[npt.NDArray[np.uint8], set[Colour]]:
        codes = (pixels.astype(np.int64) * np.array([65_536, 256, 1])).sum(-1)
        known = sorted((65_536 * r + 256 * g + b, index) for (r, g, b), index in colours.items())
        keys, indices = np.array([key for key, _ in known]), np.array([index for _, index in known], np.uint8)
        position = np.searchsorted(keys, codes).clip(0, len(keys) - 1)
        unknown = keys[position] != codes
        found = {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in np.unique(codes[unknown])} if unknown.any() else set()
        return np.where(unknown, IGNORE, indices[position]).astype(np.uint8), found


def _by_rows(pixels: npt.NDArray[Any], convert: Callable[[npt.NDArray[Any]], Converted[Value]]) -> Converted[Value]:
    """Some rows at a time: conversion takes tens of bytes a pixel, and an image may have hundreds of millions."""
    rows = max(1, _AT_ONCE // pixels.shape[1])
    parts = [convert(pixels[top : top + rows]) for top in range(0, len(pixels), rows)]
    return np.concatenate([classes for classes, _ in parts]), set().union(*(unknown for _, unknown in parts))


def _altered(name: str) -> str:
    return f"{name}: the mask is a JPEG, which has altered its values: draw or export it again, as PNG"


def index_codec(count: int, *, ignore: tuple[int, ...] = (IGNORE,), hint: str = "check the class list") -> MaskCodec:
    """Masks of class indices 0 to ``count`` - 1, with ``ignore`` for pixels without a class."""
    return MaskCodec({index: index for index in range(count)} | dict.fromkeys(ignore, IGNORE), hint=hint)
