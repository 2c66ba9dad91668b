"""Grouped 1x1 convolution with shift, residual and activation."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, power_of_two
from espnetv2.acceleration.gpu.layout import dense, laid_out_as, new, pixel_stride

_SMALLEST = 16
"""Smallest side of a matrix product."""


@triton.jit
def _pointwise(
    x: tl.tensor, weight: tl.tensor, shift: tl.tensor, slope: tl.tensor, residual: tl.tensor, out: tl.tensor,
    ins: tl.tensor, outs: tl.tensor, pixels: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xp: tl.tensor, on: tl.tensor, oc: tl.tensor, op: tl.tensor,
    ACTIVE: tl.constexpr, RESIDUAL: tl.constexpr, WIDEN: tl.constexpr,
    INS: tl.constexpr, OUTS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(pixels, PIXELS)
    n = tl.program_id(0) // across
    p = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    group = tl.program_id(2)
    o = tl.program_id(1) * OUTS + tl.arange(0, OUTS)
    i = tl.arange(0, INS)
    used = (p < pixels)[None, :]
    total = tl.zeros((OUTS, PIXELS), tl.float32)
    for first in tl.range(0, ins, INS):
        there = first + i < ins
        w = tl.load(
            weight + (group * outs + o)[:, None] * ins + (first + i)[None, :],
            mask=(o < outs)[:, None] & there[None, :],
            other=0.0,
        )
        value = tl.load(
            x + n * xn + (group * ins + first + i)[:, None] * xc + (p * xp)[None, :], mask=there[:, None] & used, other=0.0
        )
        if WIDEN:
            w, value = w.to(tl.float32), value.to(tl.float32)
        # "ieee": no tf32 for float32.
        total = tl.dot(w, value, total, input_precision="ieee")
    channel = group * outs + o
    there = o < outs
    total += tl.load(shift + channel, mask=there, other=0.0)[:, None]
    inside = there[:, None] & used
    place = n * on + channel[:, None] * oc + (p * op)[None, :]
    if RESIDUAL:
        total += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    if ACTIVE:
        below = tl.load(slope + channel, mask=there, other=0.0)[:, None]
        total = tl.where(total > 0, total, total * below)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


def pointwise(x: Tensor, weight: Tensor, shift: Tensor, slope: Tensor | None, residual: Tensor | None) -> Tensor:
    """As ``reference.pointwise``."""
    x = dense(x)
    groups, outs, ins = weight.shape
    n, _, h, w = x.shape
    out = new(x, (n, groups * outs, h, w))
    if residual is not None:
        residual = laid_out_as(out, residual)
    pixels = h * w
    deep = min(128, max(_SMALLEST, power_of_two(outs)))
    size = max(_SMALLEST, min(power_of_two(pixels), 8192 // deep, 128))
    grid = (n * blocks(pixels, size), blocks(outs, deep), groups)
    launch(
        _pointwise, grid, x,
        *(x, weight.contiguous(), shift, shift if slope is None else slope, out if residual is None else residual, out),
        *(ins, outs, pixels, x.stride(0), x.stride(1), pixel_stride(x), out.stride(0), out.stride(1), pixel_stride(out)),
        ACTIVE=slope is not None, RESIDUAL=residual is not None,
        # Triton's interpreter takes bfloat16 for whole numbers here.
        WIDEN=x.device.type == "cpu",
        INS=min(32, max(_SMALLEST, power_of_two(ins))), OUTS=deep, PIXELS=size,
    )  # fmt: skip
    return out
