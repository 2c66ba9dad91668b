"""Batch normalisation, residual and activation in one pass, and their gradients in two. For training."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnetv2.acceleration.gpu.kernels.launch import blocks, launch, tile
from espnetv2.acceleration.gpu.layout import dense, laid_out_as, new, pixel_stride

_PROGRAMS = 4096
"""Number of programs that share the sums: several per multiprocessor of the GPU, to hide one another's latency."""


@triton.jit
def _value(
    x: tl.tensor, gamma: tl.tensor, beta: tl.tensor, mean: tl.tensor, variance: tl.tensor, eps: tl.tensor,
    residual: tl.tensor, place: tl.tensor, c: tl.tensor, there: tl.tensor, inside: tl.tensor, RESIDUAL: tl.constexpr,
) -> Any:  # fmt: skip
    # Normalised; before the activation; and 1 over the standard deviation times gamma.
    inverse = tl.rsqrt(tl.load(variance + c, mask=there, other=0.0).to(tl.float32) + eps)
    scale = tl.load(gamma + c, mask=there, other=0.0).to(tl.float32)
    normal = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    normal = (normal - tl.load(mean + c, mask=there, other=0.0).to(tl.float32)[:, None]) * inverse[:, None]
    made = normal * scale[:, None] + tl.load(beta + c, mask=there, other=0.0).to(tl.float32)[:, None]
    if RESIDUAL:
        made += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    return normal, made, inverse * scale


@triton.jit
def _norm_act(
    x: tl.tensor, gamma: tl.tensor, beta: tl.tensor, mean: tl.tensor, variance: tl.tensor, eps: tl.tensor,
    slope: tl.tensor, residual: tl.tensor, out: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (p < pixels)[None, :]
    place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
    _, made, _ = _value(x, gamma, beta, mean, variance, eps, residual, place, c, there, inside, RESIDUAL)
    if ACTIVE:
        made = tl.where(made > 0, made, made * tl.load(slope + c, mask=there, other=0.0).to(tl.float32)[:, None])
    tl.store(out + place, made.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_act_sums(
    x: tl.tensor, gamma: tl.tensor, beta: tl.tensor, mean: tl.tensor, variance: tl.tensor, eps: tl.tensor,
    slope: tl.tensor, residual: tl.tensor, grad: tl.tensor, sums: tl.tensor, each: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    part = tl.program_id(0)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    below = tl.load(slope + c, mask=there, other=0.0).to(tl.float32)[:, None]
    plain = tl.zeros((CHANNELS, PIXELS), tl.float32)
    times_normal, times_negative = plain, plain
    for first in tl.range(part * each, part * each + each, PIXELS):
        p = first + tl.arange(0, PIXELS)
        inside = there[:, None] & (p < pixels)[None, :]
        place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
        normal, made, _ = _value(x, gamma, beta, mean, variance, eps, residual, place, c, there, inside, RESIDUAL)
        reach = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        if ACTIVE:
            times_negative += tl.where(made > 0, 0.0, reach * made)
            reach = tl.where(made > 0, reach, reach * below)
        plain += reach
        # Past the last pixel the gradient is 0, and so is the product.
        times_normal += reach * normal
    place = sums + part * 3 * channels + c
    tl.store(place, tl.sum(plain, axis=1), mask=there)
    tl.store(place + channels, tl.sum(times_normal, axis=1), mask=there)
    tl.store(place + 2 * channels, tl.sum(times_negative, axis=1), mask=there)


@triton.jit
def _norm_act_backward(
    x: tl.tensor, gamma: tl.tensor, beta: tl.tensor, mean: tl.tensor, variance: tl.tensor, eps: tl.tensor,
    slope: tl.tensor, residual: tl.tensor, grad: tl.tensor, sums: tl.tensor, dx: tl.tensor, dresidual: tl.tensor,
    pixels: tl.tensor, area: tl.tensor, channels: tl.tensor, xn: tl.tensor, xc: tl.tensor, xp: tl.tensor,
    BATCH: tl.constexpr,
    RESIDUAL: tl.constexpr, ACTIVE: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
) -> None:  # fmt: skip
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    there = c < channels
    inside = there[:, None] & (p < pixels)[None, :]
    place = c[:, None] * xc + (p // area * xn + p % area * xp)[None, :]
    normal, made, scale = _value(x, gamma, beta, mean, variance, eps, residual, place, c, there, inside, RESIDUAL)
    reach = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if ACTIVE:
        reach = tl.where(made > 0, reach, reach * tl.load(slope + c, mask=there, other=0.0).to(tl.float32)[:, None])
    if RESIDUAL:
        tl.store(dresidual + place, reach.to(dresidual.dtype.element_ty), mask=inside)
    if BATCH:
        reach -= (tl.load(sums + c, mask=there, other=0.0) / pixels)[:, None]
        reach -= normal * (tl.load(sums + channels + c, mask=there, other=0.0) / pixels)[:, None]
    tl.store(dx + place, (reach * scale[:, None]).to(dx.dtype.element_ty), mask=inside)


def norm_act(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    slope: Tensor | None,
    residual: Tensor | None,
    batch: bool,
) -> Tensor:
    """As ``reference.norm_act``."""
    del batch
    x = dense(x)
    out = new(x, x.shape)
    _launch(_norm_act, x, (gamma, beta, mean, variance, eps), slope, residual, out)
    return out


def norm_act_sums(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    slope: Tensor | None,
    residual: Tensor | None,
    grad: Tensor,
) -> Tensor:
    """As ``reference.norm_act_sums``."""
    x = dense(x)
    pixels, channels = x.numel() // x.shape[1], x.shape[1]
    size = tile(x, channels, pixels)
    wanted = max(1, _PROGRAMS // blocks(channels, size.channels))
    each = size.pixels * max(4, blocks(blocks(pixels, wanted), size.pixels))
    parts = blocks(pixels, each)
    found = torch.empty(parts, 3, channels, dtype=torch.float32, device=x.device)
    extra = (laid_out_as(x, grad), found, each)
    _launch(_norm_act_sums, x, (gamma, beta, mean, variance, eps), slope, residual, *extra, parts=parts)
    return found.sum(0)


def norm_act_backward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    slope: Tensor | None,
    residual: Tensor | None,
    grad: Tensor,
    sums: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As ``reference.norm_act_backward``."""
    x = dense(x)
    dx = new(x, x.shape)
    dresidual = x.new_empty(0) if residual is None else torch.empty_like(dx, dtype=residual.dtype)
    extra = (laid_out_as(x, grad), gamma if sums is None else sums, dx, dresidual)
    _launch(_norm_act_backward, x, (gamma, beta, mean, variance, eps), slope, residual, *extra, BATCH=sums is not None)
    return dx, dresidual


def _launch(
    kernel: Any,
    x: Tensor,
    normalisation: tuple[Tensor | float, ...],
    slope: Tensor | None,
    residual: Tensor | None,
    *extra: Tensor | int,
    parts: int | None = None,
    **constants: bool,
) -> None:
    n, channels, h, w = x.shape
    size = tile(x, channels, n * h * w)
    launch(
        kernel, (parts or blocks(n * h * w, size.pixels), blocks(channels, size.channels)), x,
        x, *normalisation, normalisation[0] if slope is None else slope, x if residual is None else laid_out_as(x, residual),
        *(*extra, n * h * w, h * w, channels, x.stride(0), x.stride(1), pixel_stride(x)),
        RESIDUAL=residual is not None, ACTIVE=slope is not None, CHANNELS=size.channels, PIXELS=size.pixels, **constants,
    )  # fmt: skip
