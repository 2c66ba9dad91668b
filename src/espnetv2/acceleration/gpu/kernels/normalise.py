"""Scale, shift, residual and activation in one pass, and their gradients in two. For training."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import laid_out_as, pixel_stride

_PARTS = 256


@triton.jit
def _value(
    x: tl.tensor, residual: tl.tensor, scale: tl.tensor, shift: tl.tensor, place: tl.tensor, c: tl.tensor, there: tl.tensor,
    inside: tl.tensor, RESIDUAL: tl.constexpr,
) -> Any:  # fmt: skip
    # Before the activation.
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    made = value * tl.load(scale + c, mask=there, other=0.0)[:, None] + tl.load(shift + c, mask=there, other=0.0)[:, None]
    if RESIDUAL:
        made += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    return value, made


@triton.jit
def _scale_act(
    x: tl.tensor, residual: tl.tensor, scale: tl.tensor, shift: tl.tensor, slope: tl.tensor, out: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (p < pixels)[None, :]
    place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
    _, made = _value(x, residual, scale, shift, place, c, there, inside, RESIDUAL)
    if ACTIVE:
        made = tl.where(made > 0, made, made * tl.load(slope + c, mask=there, other=0.0)[:, None])
    tl.store(out + place, made.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sums(
    x: tl.tensor, residual: tl.tensor, scale: tl.tensor, shift: tl.tensor, slope: tl.tensor, grad: tl.tensor,
    mean: tl.tensor, sums: tl.tensor, each: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    part = tl.program_id(0)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    below = tl.load(slope + c, mask=there, other=0.0)[:, None]
    centre = tl.load(mean + c, mask=there, other=0.0)[:, None]
    plain = tl.zeros((CHANNELS, PIXELS), tl.float32)
    times_x, times_negative = plain, plain
    for first in tl.range(part * each, part * each + each, PIXELS):
        p = first + tl.arange(0, PIXELS)
        inside = there[:, None] & (p < pixels)[None, :]
        place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
        value, made = _value(x, residual, scale, shift, place, c, there, inside, RESIDUAL)
        reach = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        if ACTIVE:
            times_negative += tl.where(made > 0, 0.0, reach * made)
            reach = tl.where(made > 0, reach, reach * below)
        plain += reach
        # Past the last pixel the gradient is 0, and so is the product.
        times_x += reach * (value - centre)
    place = sums + part * 3 * channels + c
    tl.store(place, tl.sum(plain, axis=1), mask=there)
    tl.store(place + channels, tl.sum(times_x, axis=1), mask=there)
    tl.store(place + 2 * channels, tl.sum(times_negative, axis=1), mask=there)


@triton.jit
def _backward(
    x: tl.tensor, residual: tl.tensor, scale: tl.tensor, shift: tl.tensor, slope: tl.tensor, grad: tl.tensor,
    by_x: tl.tensor, constant: tl.tensor, dx: tl.tensor, dresidual: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (p < pixels)[None, :]
    place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
    value, made = _value(x, residual, scale, shift, place, c, there, inside, RESIDUAL)
    reach = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if ACTIVE:
        reach = tl.where(made > 0, reach, reach * tl.load(slope + c, mask=there, other=0.0)[:, None])
    if RESIDUAL:
        tl.store(dresidual + place, reach.to(dresidual.dtype.element_ty), mask=inside)
    reach = reach * tl.load(scale + c, mask=there, other=0.0)[:, None]
    reach += value * tl.load(by_x + c, mask=there, other=0.0)[:, None]
    reach += tl.load(constant + c, mask=there, other=0.0)[:, None]
    tl.store(dx + place, reach.to(dx.dtype.element_ty), mask=inside)


def scale_act(x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, slope: Tensor | None) -> Tensor:
    """As ``normalise.scale_act``; ``x`` is dense."""
    out = torch.empty_like(x)
    given = x if residual is None else laid_out_as(x, residual)
    _launch(_scale_act, x, given, scale, shift, slope, out, residual=residual is not None)
    return out


def sums(
    x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, slope: Tensor | None, grad: Tensor, mean: Tensor
) -> Tensor:
    """As ``normalise.sums``; ``x`` is dense."""
    pixels, channels = x.numel() // x.shape[1], x.shape[1]
    size = tile(x, channels, pixels)
    each = size.pixels * max(4, blocks(blocks(pixels, _PARTS), size.pixels))
    parts = blocks(pixels, each)
    found = torch.empty(parts, 3, channels, dtype=torch.float32, device=x.device)
    given = x if residual is None else laid_out_as(x, residual)
    extra = (laid_out_as(x, grad), mean, found, each)
    _launch(_sums, x, given, scale, shift, slope, *extra, residual=residual is not None, parts=parts)
    return found.sum(0)


def backward(
    x: Tensor,
    residual: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    slope: Tensor | None,
    grad: Tensor,
    by_x: Tensor,
    constant: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """As ``normalise.backward``; ``x`` is dense."""
    dx = torch.empty_like(x)
    given = x if residual is None else laid_out_as(x, residual)
    dresidual = None if residual is None else torch.empty_like(x, dtype=residual.dtype)
    extra = (laid_out_as(x, grad), by_x, constant, dx, dx if dresidual is None else dresidual)
    _launch(_backward, x, given, scale, shift, slope, *extra, residual=residual is not None)
    return dx, dresidual


def _launch(
    kernel: Any,
    x: Tensor,
    given: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: Tensor | None,
    *extra: Tensor | int,
    residual: bool,
    parts: int | None = None,
) -> None:
    n, channels, h, w = x.shape
    size = tile(x, channels, n * h * w)
    launch(
        kernel, (parts or blocks(n * h * w, size.pixels), blocks(channels, size.channels)), x,
        *(x, given, scale, shift, scale if slope is None else slope, *extra),
        *(n * h * w, h * w, channels, x.stride(0), x.stride(1), pixel_stride(x)),
        RESIDUAL=residual, ACTIVE=slope is not None, CHANNELS=size.channels, PIXELS=size.pixels,
    )  # fmt: skip
