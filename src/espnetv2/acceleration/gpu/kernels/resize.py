"""Bilinear interpolation with aligned corners inside the operation that needs its result."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import dense

_PIXELS = 128


@triton.jit
def _between(place: tl.tensor, last: tl.tensor, step: tl.tensor) -> Any:
    at = place.to(tl.float32) * step
    low = tl.minimum(at.to(tl.int32), last)
    return low, tl.minimum(low + 1, last), at - low.to(tl.float32)


@triton.jit
def _classes(
    x: tl.tensor, out: tl.tensor, winners: tl.tensor, height: tl.tensor, width: tl.tensor, out_height: tl.tensor,
    out_width: tl.tensor, step_y: tl.tensor, step_x: tl.tensor, xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(out_width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // out_height, row % out_height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    used = px < out_width
    top, bottom, down = _between(y, height - 1, step_y)
    left, right, along = _between(px, width - 1, step_x)
    best = tl.full((PIXELS,), float("-inf"), tl.float32)
    winner = tl.zeros((PIXELS,), tl.int32)
    source = x + n * xn
    for c in tl.range(0, winners):
        upper, lower = source + c * xc + top * xh, source + c * xc + bottom * xh
        a = tl.load(upper + left * xw, mask=used, other=0.0).to(tl.float32)
        b = tl.load(upper + right * xw, mask=used, other=0.0).to(tl.float32)
        d = tl.load(lower + left * xw, mask=used, other=0.0).to(tl.float32)
        e = tl.load(lower + right * xw, mask=used, other=0.0).to(tl.float32)
        value = (1 - down) * ((1 - along) * a + along * b) + down * ((1 - along) * d + along * e)
        # NaN is the maximum, as in torch.
        better = (value > best) | ((value != value) & (best == best))
        best = tl.where(better, value, best)
        winner = tl.where(better, c, winner)
    tl.store(out + row * out_width + px, winner.to(out.dtype.element_ty), mask=used)


def classes(logits: Tensor, height: int, width: int, winners: int) -> Tensor:
    """As ``reference.classes``."""
    logits = dense(logits)
    n, _, h, w = logits.shape
    out = torch.empty(n, height, width, dtype=torch.uint8, device=logits.device)
    launch(
        _classes, (n * height * blocks(width, _PIXELS),), logits,
        *(logits, out, winners, h, w, height, width, _step(h, height), _step(w, width), *logits.stride()),
        PIXELS=_PIXELS,
    )  # fmt: skip
    return out


@triton.jit
def _fuse(
    skip: tl.tensor, gate: tl.tensor, below: tl.tensor, scale: tl.tensor, shift: tl.tensor, slope: tl.tensor, out: tl.tensor,
    channels: tl.tensor, height: tl.tensor, width: tl.tensor, below_height: tl.tensor, below_width: tl.tensor,
    step_y: tl.tensor, step_x: tl.tensor, xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    bn: tl.tensor, bc: tl.tensor, bh: tl.tensor, bw: tl.tensor,
    CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // height, row % height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (px < width)[None, :]
    top, bottom, down = _between(y, below_height - 1, step_y)
    left, right, along = _between(px, below_width - 1, step_x)
    along = along[None, :]
    source = below + n * bn + c[:, None] * bc
    upper, lower = source + top * bh, source + bottom * bh
    a = tl.load(upper + (left * bw)[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(upper + (right * bw)[None, :], mask=inside, other=0.0).to(tl.float32)
    d = tl.load(lower + (left * bw)[None, :], mask=inside, other=0.0).to(tl.float32)
    e = tl.load(lower + (right * bw)[None, :], mask=inside, other=0.0).to(tl.float32)
    value = (1 - down) * ((1 - along) * a + along * b) + down * ((1 - along) * d + along * e)
    place = n * xn + c[:, None] * xc + y * xh + (px * xw)[None, :]
    weight = tl.load(gate + n * channels + c, mask=there, other=0.0).to(tl.float32)
    value += tl.load(skip + place, mask=inside, other=0.0).to(tl.float32) * weight[:, None]
    value = value * tl.load(scale + c, mask=there, other=0.0)[:, None] + tl.load(shift + c, mask=there, other=0.0)[:, None]
    value = tl.where(value > 0, value, value * tl.load(slope + c, mask=there, other=0.0)[:, None])
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


def fuse(skip: Tensor, gate: Tensor, below: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> Tensor:
    """As ``reference.fuse``."""
    skip, below = dense(skip), dense(below)
    n, c, h, w = skip.shape
    height, width = below.shape[2:]
    out = torch.empty_like(skip)
    size = tile(skip, c, w)
    launch(
        _fuse, (n * h * blocks(w, size.pixels), blocks(c, size.channels)), skip,
        *(skip, gate.contiguous(), below, scale, shift, slope, out, c, h, w, height, width),
        *(_step(height, h), _step(width, w), *skip.stride(), *below.stride()),
        CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    return out


def _step(inputs: int, outputs: int) -> float:
    return (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
