"""Shared by all launches: the device and the tile sizes."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from espnetv2.acceleration.gpu.layout import layout

_VALUES = 512
_MOST_CHANNELS = 64
_MOST_PIXELS = 128


class Tile(NamedTuple):
    """Number of channels and of adjacent pixels of a row that one program computes."""

    channels: int
    pixels: int


def launch(kernel: Any, grid: tuple[int, ...], like: Tensor, *arguments: Any, **constants: Any) -> None:
    """Start a kernel on the device of ``like``, which need not be the current one."""
    # Triton uses the current device's stream: if another device is current, the work would run on the wrong one.
    with torch.cuda.device(like.device) if like.device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*arguments, **constants)


def tile(like: Tensor, channels: int, width: int) -> Tile:
    """A tile with its longer side along the contiguous dimension."""
    wide, deep = power_of_two(width), power_of_two(channels)
    if layout(like) == torch.channels_last:
        deep = min(deep, _MOST_CHANNELS)
        return Tile(deep, min(wide, _VALUES // deep))
    wide = min(wide, _MOST_PIXELS)
    return Tile(min(deep, _VALUES // wide), wide)


def power_of_two(value: int) -> int:
    """The smallest power of two that is at least ``value``."""
    return 1 << max(0, value - 1).bit_length()


def blocks(total: int, each: int) -> int:
    """How many blocks of ``each`` cover ``total``."""
    return -(-total // each)
