"""The end of a strided EESP unit: the averaged input beside the expanded branches, the shortcut, the activation."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import dense, laid_out_as, new


@triton.jit
def _join(
    x: tl.tensor, expanded: tl.tensor, shortcut: tl.tensor, slope: tl.tensor, out: tl.tensor,
    pooled: tl.tensor, channels: tl.tensor, height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, en: tl.tensor, ec: tl.tensor, eh: tl.tensor, ew: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    SHORTCUT: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(out_width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // out_height, row % out_height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (px < out_width)[None, :]
    source = x + n * xn + c[:, None] * xc
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for tap in tl.static_range(9):
        iy, ix = y * 2 + tap // 3 - 1, px * 2 + tap % 3 - 1
        seen = (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
        mask = inside & (c < pooled)[:, None] & seen[None, :]
        total += tl.load(source + iy * xh + (ix * xw)[None, :], mask=mask, other=0.0).to(tl.float32)
    beside = expanded + n * en + (c - pooled)[:, None] * ec + y * eh + (px * ew)[None, :]
    value = total / 9 + tl.load(beside, mask=inside & (c >= pooled)[:, None], other=0.0).to(tl.float32)
    place = n * on + c[:, None] * oc + y * oh + (px * ow)[None, :]
    if SHORTCUT:
        value += tl.load(shortcut + place, mask=inside, other=0.0).to(tl.float32)
    value = tl.where(value > 0, value, value * tl.load(slope + c, mask=there, other=0.0)[:, None])
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


def join(x: Tensor, expanded: Tensor, shortcut: Tensor | None, slope: Tensor) -> Tensor:
    """As ``reference.join``."""
    x, expanded = dense(x), dense(expanded)
    n, pooled, h, w = x.shape
    channels, height, width = pooled + expanded.shape[1], *expanded.shape[2:]
    out = new(x, (n, channels, height, width))
    if shortcut is not None:
        shortcut = laid_out_as(out, shortcut)
    size = tile(x, channels, width)
    launch(
        _join, (n * height * blocks(width, size.pixels), blocks(channels, size.channels)), x,
        *(x, expanded, out if shortcut is None else shortcut, slope, out, pooled, channels, h, w, height, width),
        *(*x.stride(), *expanded.stride(), *out.stride()),
        SHORTCUT=shortcut is not None, CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    return out
