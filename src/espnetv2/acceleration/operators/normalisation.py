"""Batch normalisation and activation, with a residual between them."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.operators.calling import call, new, pixels, rows


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of (N, C, H, W)."""
    x = pixels(x)
    mean, variance = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    call("espnetv2_moments", x, mean, variance, ctypes.c_int64(rows(x)), x.shape[1])
    return mean, variance


def norm_act(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    slope: Tensor | None,
    residual: Tensor | None,
    *,
    batch: bool,
) -> Tensor:
    """``prelu(batch_norm(x) + residual)``, the same shape.

    Args:
        x: (N, C, H, W).
        gamma: scale, (C).
        beta: shift, (C).
        mean: to normalise with, (C).
        variance: biased, (C).
        eps: added to the variance.
        slope: PReLU's, (C), or None for no activation.
        residual: added before the activation.
        batch: mean and variance are those of ``x``, so its gradient flows through them.
    """
    inverse = torch.rsqrt(variance + eps)
    out: Tensor = _NormAct.apply(x, gamma, beta, mean, inverse, slope, residual, batch)
    return out


def activation(x: Tensor, slope: Tensor, residual: Tensor | None) -> Tensor:
    """``prelu(x + residual)`` with a slope for each channel."""
    out: Tensor = _NormAct.apply(x, None, None, None, None, slope, residual, False)
    return out


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor | None,
        inverse: Tensor | None,
        slope: Tensor | None,
        residual: Tensor | None,
        batch: bool,
    ) -> Tensor:
        x = pixels(x)
        residual = None if residual is None else pixels(residual)
        scale = shift = None
        if gamma is not None and beta is not None and mean is not None and inverse is not None:
            scale = gamma * inverse
            shift = torch.addcmul(beta, mean, scale, value=-1)
        out = new(x, x.shape)
        call("espnetv2_scale_act", x, residual, scale, shift, slope, out, ctypes.c_int64(rows(x)), x.shape[1])
        ctx.save_for_backward(x, mean, inverse, scale, shift, slope, residual)
        ctx.batch = batch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, shift, slope, residual = ctx.saved_tensors
        grad = pixels(grad)
        count, channels = rows(x), x.shape[1]
        inputs = (x, residual, grad, scale, shift, slope)
        needs = ctx.needs_input_grad
        by_dz, by_x, constant = scale, None, None
        dgamma = dbeta = dslope = None
        if ctx.batch or needs[1] or needs[2] or needs[5]:
            sums = x.new_empty(3, channels)
            call("espnetv2_scale_act_sums", *inputs, mean, *sums.unbind(), ctypes.c_int64(count), channels)
            dslope = sums[2] if needs[5] else None
            if inverse is not None:
                dbeta, dgamma = sums[0], sums[1] * inverse
            if ctx.batch:
                by_x = -scale * inverse * dgamma / count
                constant = -scale * dbeta / count - by_x * mean
        dx = new(x, x.shape) if needs[0] else None
        dres = new(x, x.shape) if residual is not None and needs[6] else None
        if dx is not None and dres is not None and scale is None:
            dx = None  # both are the gradient before the activation
        call("espnetv2_scale_act_backward", *inputs, by_dz, by_x, constant, dx, dres, ctypes.c_int64(count), channels)
        if scale is None and needs[0] and dx is None:
            dx = dres
        return dx, dgamma if needs[1] else None, dbeta if needs[2] else None, None, None, dslope, dres, None
