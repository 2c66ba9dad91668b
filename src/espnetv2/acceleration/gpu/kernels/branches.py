"""The middle of an EESP unit: dilated depthwise convolutions, each added to the next. Paper, section 3.2.

A program computes all branches of its tile. The hierarchical fusion is then a running sum over the branches, and the reduced
map is read from memory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import dense, laid_out_as, new

_PARTS = 512


@triton.jit
def _branches(
    x: tl.tensor, weight: tl.tensor, scale: tl.tensor, shift: tl.tensor, slope: tl.tensor, out: tl.tensor,
    channels: tl.tensor, height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    K: tl.constexpr, DILATIONS: tl.constexpr, STRIDE: tl.constexpr, AFFINE: tl.constexpr,
    CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(out_width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // out_height, row % out_height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (px < out_width)[None, :]
    source = x + n * xn + c[:, None] * xc
    # All branches see the centre.
    centre = tl.load(source + y * STRIDE * xh + (px * STRIDE * xw)[None, :], mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for k in tl.static_range(K):
        for tap in tl.static_range(9):
            w = tl.load(weight + (k * channels + c) * 9 + tap, mask=there, other=0.0).to(tl.float32)
            if tap == 4:
                value = centre
            else:
                iy = y * STRIDE + (tap // 3 - 1) * DILATIONS[k]
                ix = px * STRIDE + (tap % 3 - 1) * DILATIONS[k]
                seen = (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
                value = tl.load(source + iy * xh + (ix * xw)[None, :], mask=inside & seen[None, :], other=0.0).to(tl.float32)
            total += w[:, None] * value
        channel = k * channels + c
        made = total
        if AFFINE:
            by = tl.load(scale + channel, mask=there, other=0.0)
            plus = tl.load(shift + channel, mask=there, other=0.0)
            below = tl.load(slope + channel, mask=there, other=0.0)
            made = total * by[:, None] + plus[:, None]
            made = tl.where(made > 0, made, made * below[:, None])
        place = out + n * on + y * oh + channel[:, None] * oc + (px * ow)[None, :]
        tl.store(place, made.to(out.dtype.element_ty), mask=inside)


def branches(x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> Tensor:
    """As ``reference.branches``."""
    return _launch_branches(x, weight, dilations, stride, None)


def middle(
    x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int, scale: Tensor, shift: Tensor, slope: Tensor
) -> Tensor:
    """As ``reference.middle``."""
    return _launch_branches(x, weight, dilations, stride, (scale, shift, slope))


def _launch_branches(
    x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int, affine: tuple[Tensor, Tensor, Tensor] | None
) -> Tensor:
    x, weight = dense(x), weight.contiguous()
    n, c, h, w = x.shape
    height, width = (h - 1) // stride + 1, (w - 1) // stride + 1
    out = new(x, (n, len(dilations) * c, height, width))
    size = tile(x, c, width)
    grid = (n * height * blocks(width, size.pixels), blocks(c, size.channels))
    launch(
        _branches, grid, x,
        *(x, weight, *(affine or (weight, weight, weight)), out, c, h, w, height, width, *x.stride(), *out.stride()),
        K=len(dilations), DILATIONS=tuple(dilations), STRIDE=stride, AFFINE=affine is not None,
        CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    return out


@triton.jit
def _value(
    source: tl.tensor, y: tl.tensor, x: tl.tensor, height: tl.tensor, width: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    inside: tl.tensor,
) -> Any:  # fmt: skip
    seen = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return tl.load(source + (y * xh + x * xw)[None, :], mask=inside & seen[None, :], other=0.0).to(tl.float32)


@triton.jit
def _weights(
    x: tl.tensor, grad: tl.tensor, reaching: tl.tensor, sums: tl.tensor, dilations: tl.tensor, pixels: tl.tensor,
    each: tl.tensor, channels: tl.tensor, height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, gn: tl.tensor, gc: tl.tensor, gh: tl.tensor, gw: tl.tensor,
    K: tl.constexpr, STRIDE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    # One of several sums over ``each`` pixels of the batch, for one branch: its result is in its own and all later maps.
    part, k = tl.program_id(0), tl.program_id(2)
    d = (dilations >> (8 * k)) & 255
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    a0 = tl.zeros((CHANNELS, PIXELS), tl.float32)
    a1, a2, a3, a4, a5, a6, a7, a8 = a0, a0, a0, a0, a0, a0, a0, a0
    for first in tl.range(part * each, part * each + each, PIXELS):
        p = first + tl.arange(0, PIXELS)
        n, rest = p // (out_height * out_width), p % (out_height * out_width)
        y, at = rest // out_width, rest % out_width
        inside = there[:, None] & (p < pixels)[None, :]
        corner = (n * gn + y * gh + at * gw)[None, :] + c[:, None] * gc
        reach = tl.zeros((CHANNELS, PIXELS), tl.float32)
        for j in tl.static_range(K):
            reach += tl.load(grad + corner + j * channels * gc, mask=inside & (j >= k), other=0.0).to(tl.float32)
        tl.store(reaching + corner + k * channels * gc, reach.to(reaching.dtype.element_ty), mask=inside)
        source = x + c[:, None] * xc + (n * xn)[None, :]
        y, at = y * STRIDE, at * STRIDE
        a0 += reach * _value(source, y - d, at - d, height, width, xh, xw, inside)
        a1 += reach * _value(source, y - d, at, height, width, xh, xw, inside)
        a2 += reach * _value(source, y - d, at + d, height, width, xh, xw, inside)
        a3 += reach * _value(source, y, at - d, height, width, xh, xw, inside)
        a4 += reach * _value(source, y, at, height, width, xh, xw, inside)
        a5 += reach * _value(source, y, at + d, height, width, xh, xw, inside)
        a6 += reach * _value(source, y + d, at - d, height, width, xh, xw, inside)
        a7 += reach * _value(source, y + d, at, height, width, xh, xw, inside)
        a8 += reach * _value(source, y + d, at + d, height, width, xh, xw, inside)
    place = sums + ((part * K + k) * channels + c) * 9
    tl.store(place, tl.sum(a0, axis=1), mask=there)
    tl.store(place + 1, tl.sum(a1, axis=1), mask=there)
    tl.store(place + 2, tl.sum(a2, axis=1), mask=there)
    tl.store(place + 3, tl.sum(a3, axis=1), mask=there)
    tl.store(place + 4, tl.sum(a4, axis=1), mask=there)
    tl.store(place + 5, tl.sum(a5, axis=1), mask=there)
    tl.store(place + 6, tl.sum(a6, axis=1), mask=there)
    tl.store(place + 7, tl.sum(a7, axis=1), mask=there)
    tl.store(place + 8, tl.sum(a8, axis=1), mask=there)


@triton.jit
def _input(
    reaching: tl.tensor, weight: tl.tensor, out: tl.tensor,
    channels: tl.tensor, height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor, gn: tl.tensor, gc: tl.tensor, gh: tl.tensor, gw: tl.tensor,
    K: tl.constexpr, DILATIONS: tl.constexpr, STRIDE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    across = tl.cdiv(width, PIXELS)
    row = tl.program_id(0) // across
    n, y = row // height, row % height
    px = tl.program_id(0) % across * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (px < width)[None, :]
    total = tl.zeros((CHANNELS, PIXELS), tl.float32)
    for k in tl.static_range(K):
        source = reaching + n * gn + (k * channels + c)[:, None] * gc
        for tap in tl.static_range(9):
            w = tl.load(weight + (k * channels + c) * 9 + tap, mask=there, other=0.0).to(tl.float32)
            iy = y - (tap // 3 - 1) * DILATIONS[k]
            ix = px - (tap % 3 - 1) * DILATIONS[k]
            # A negative position must not be divided: Triton's division rounds towards zero.
            whole = (iy >= 0) & (ix >= 0) & (iy % STRIDE == 0) & (ix % STRIDE == 0)
            value = _value(source, iy // STRIDE, ix // STRIDE, out_height, out_width, gh, gw, inside & whole[None, :])
            total += w[:, None] * value
    place = out + n * xn + y * xh + c[:, None] * xc + (px * xw)[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=inside)


def branches_backward(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    """Gradients of ``branches`` for the input, in its type, and for the weights, in theirs."""
    x, weight = dense(x), weight.contiguous()
    reaching = new(x, grad.shape)
    grad = laid_out_as(reaching, grad)
    n, c, h, w = x.shape
    height, width = grad.shape[2:]
    sizes = (c, h, w, height, width, *x.stride(), *grad.stride())
    pixels, k = n * height * width, len(dilations)
    size = tile(x, c, pixels)
    each = size.pixels * max(4, blocks(blocks(pixels, _PARTS), size.pixels))
    parts = blocks(pixels, each)
    sums = torch.empty(parts, k, c, 9, dtype=torch.float32, device=x.device)
    packed = sum(dilation << (8 * i) for i, dilation in enumerate(dilations))
    launch(
        _weights, (parts, blocks(c, size.channels), k), x,
        *(x, grad, reaching, sums, packed, pixels, each, *sizes),
        K=k, STRIDE=stride, CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    dx = new(x, x.shape)
    size = tile(x, c, w)
    launch(
        _input, (n * h * blocks(w, size.pixels), blocks(c, size.channels)), x, reaching, weight, dx, *sizes,
        K=len(dilations), DILATIONS=tuple(dilations), STRIDE=stride, CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
    return dx, sums.sum(0).reshape(weight.shape).to(weight.dtype)
