"""Grouped 3x3 convolution of few channels with shift and activation."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, power_of_two
from espnetv2.acceleration.gpu.layout import dense, new


@triton.jit
def _convolve(
    x: tl.tensor, weight: tl.tensor, shift: tl.tensor, slope: tl.tensor, out: tl.tensor,
    ins: tl.tensor, outs: tl.tensor, between: tl.tensor, step: tl.tensor,
    height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    STRIDE: tl.constexpr, OUTS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(out_width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // out_height, row % out_height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    group = tl.program_id(2)
    o = tl.program_id(1) * OUTS + tl.arange(0, OUTS)
    there, used = o < outs, px < out_width
    total = tl.zeros((OUTS, PIXELS), tl.float32)
    for i in tl.range(0, ins):
        source = x + n * xn + (group * between + i * step) * xc
        for tap in tl.static_range(9):
            w = tl.load(weight + ((group * outs + o) * ins + i) * 9 + tap, mask=there, other=0.0)
            iy = y * STRIDE + tap // 3 - 1
            ix = px * STRIDE + tap % 3 - 1
            seen = used & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
            value = tl.load(source + iy * xh + ix * xw, mask=seen, other=0.0).to(tl.float32)
            total += w[:, None] * value[None, :]
    channel = group * outs + o
    total += tl.load(shift + channel, mask=there, other=0.0)[:, None]
    below = tl.load(slope + channel, mask=there, other=0.0)[:, None]
    total = tl.where(total > 0, total, total * below)
    place = out + n * on + y * oh + channel[:, None] * oc + (px * ow)[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=there[:, None] & used[None, :])


def convolve(x: Tensor, weight: Tensor, groups: int, stride: int, shift: Tensor, slope: Tensor, shuffled: bool) -> Tensor:
    """As ``reference.convolve``."""
    x, weight = dense(x), weight.contiguous()
    n, _, h, w = x.shape
    ins, outs = weight.shape[1], weight.shape[0] // groups
    height, width = (h - 1) // stride + 1, (w - 1) // stride + 1
    out = new(x, (n, weight.shape[0], height, width))
    pixels = min(power_of_two(width), 128)
    deep = min(power_of_two(outs), max(1, 1024 // pixels))
    # A group's channels are adjacent, or each is one of the ``groups`` channels of a part.
    between, step = (1, groups) if shuffled else (ins, 1)
    launch(
        _convolve, (n * height * blocks(width, pixels), blocks(outs, deep), groups), x,
        *(x, weight, shift, slope, out, ins, outs, between, step, h, w, height, width, *x.stride(), *out.stride()),
        STRIDE=stride, OUTS=deep, PIXELS=pixels,
    )  # fmt: skip
    return out
