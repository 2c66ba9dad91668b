"""Operators at another size: interpolation, and the stages of a pyramid pooling."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.bands import Scale, Stages, bilinear_band, pyramid_stages
from espnetv2.acceleration.operators.calling import call, new, pixels, taps, whole


def stages(x: Tensor, weights: Sequence[Tensor], scales: Sequence[Scale | None]) -> Tensor:
    """Depthwise 3x3 convolutions of one input, each at its own scale, concatenated.

    Args:
        x: (N, C, H, W).
        weights: S tensors (C, 1, 3, 3).
        scales: the size at which each runs, or None for the input's own.

    Returns:
        (N, S·C, H, W).
    """
    out: Tensor = _Stages.apply(x, torch.stack(list(weights)), tuple(scales))
    return out


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation with aligned corners: (N, C, H, W) -> (N, C, *size)."""
    out: Tensor = _Resize.apply(x, size)
    return out


class _Stages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, scales: tuple[Scale | None, ...]) -> Tensor:
        x, weights = pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        found = pyramid_stages((h, w), scales)
        out = new(x, (n, found.count * c, h, w))
        call("espnetv2_stages", x, weights, out, n, h, w, c, found.count, found.array)
        ctx.save_for_backward(x, weights)
        ctx.stages = found
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        found: Stages = ctx.stages
        n, c, h, w = x.shape
        dx, dw = new(x, x.shape), x.new_empty(n, found.count, 9, whole(c))
        call("espnetv2_stages_backward", x, weights, pixels(grad), dx, dw, n, h, w, c, found.count, found.array)
        return dx, taps(dw, weights), None


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.sizes = (x.shape[2], x.shape[3]), size
        return _resample(x, ctx.sizes[0], size, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _resample(grad, *ctx.sizes, transposed=True), None


def _resample(x: Tensor, before: tuple[int, int], after: tuple[int, int], *, transposed: bool) -> Tensor:
    """Resize from ``before`` to ``after``, or apply the transpose of that."""
    x = pixels(x)
    n, c, h, w = x.shape
    bands = [bilinear_band(i, o, transposed=transposed) for i, o in zip(before, after, strict=True)]
    out = new(x, (n, c, *(before if transposed else after)))
    call("espnetv2_resample", x, out, n, h, w, c, *(ctypes.byref(band.for_kernels()) for band in bands))
    return out
