"""Batch normalisation, residual and activation of a training step on a GPU, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.gpu.layout import dense
from espnetv2.acceleration.gpu.operators import usable


def norm_act(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    inverse: Tensor,
    slope: Tensor | None,
    residual: Tensor | None,
    *,
    batch: bool,
) -> Tensor:
    """``prelu(batch_norm(x) + residual)``, the same shape and type.

    Args:
        x: (N, C, H, W).
        gamma: scale, (C).
        beta: shift, (C).
        mean: what to normalise by, (C).
        inverse: 1 over the standard deviation, (C).
        slope: PReLU's, (C), or None for no activation.
        residual: added before the activation.
        batch: mean and deviation are those of ``x``, so its gradient goes through them.
    """
    out: Tensor = _NormAct.apply(x, gamma, beta, mean, inverse, slope, residual, batch)
    return out


def moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean, and 1 over the standard deviation, of every channel of (N, C, H, W), at least float32."""
    if x.device.type == "cuda":
        return torch.batch_norm_stats(x, eps)
    variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3), correction=0)
    return mean, torch.rsqrt(variance + eps)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        inverse: Tensor,
        slope: Tensor | None,
        residual: Tensor | None,
        batch: bool,
    ) -> Tensor:
        x, scale = dense(x), gamma * inverse
        shift = torch.addcmul(beta, mean, scale, value=-1)
        ctx.save_for_backward(x, mean, inverse, scale, shift, slope, residual)
        ctx.batch = batch
        return scale_act(x, residual, scale, shift, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, shift, slope, residual = ctx.saved_tensors
        inputs, count = (x, residual, scale, shift, slope, grad), x.numel() // x.shape[1]
        dbeta, centred, dslope = sums(*inputs, mean).unbind()
        dgamma = centred * inverse
        by_x = -scale * inverse * dgamma / count if ctx.batch else torch.zeros_like(scale)
        constant = -scale * dbeta / count - by_x * mean if ctx.batch else torch.zeros_like(scale)
        dx, dresidual = backward(*inputs, by_x, constant)
        return dx, dgamma, dbeta, None, None, None if slope is None else dslope, dresidual, None


def scale_act(x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, slope: Tensor | None) -> Tensor:
    """``prelu(scale * x + shift + residual)``, in the type of ``x``."""
    if usable(x, x.shape):
        from espnetv2.acceleration.gpu.kernels import normalise as kernels

        return kernels.scale_act(x, residual, scale, shift, slope)
    made = _before_activation(x, residual, scale, shift)
    return (made if slope is None else torch.where(made > 0, made, made * _wide(slope))).to(x.dtype)


def sums(
    x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, slope: Tensor | None, grad: Tensor, mean: Tensor
) -> Tensor:
    """Three sums (3, C) over batch and pixels: g, the gradient before the activation; g (x - mean); the slope's, or 0."""
    if usable(x, x.shape):
        from espnetv2.acceleration.gpu.kernels import normalise as kernels

        return kernels.sums(x, residual, scale, shift, slope, grad, mean)
    made = _before_activation(x, residual, scale, shift)
    reach = _reaching(made, slope, grad)
    negative = torch.zeros_like(made) if slope is None else torch.where(made > 0, 0.0, made * grad)
    return torch.stack([part.sum((0, 2, 3)) for part in (reach, reach * (x - _wide(mean)), negative)])


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
    """``scale * g + by_x * x + constant`` and, for the residual, g, the gradient before the activation."""
    if usable(x, x.shape):
        from espnetv2.acceleration.gpu.kernels import normalise as kernels

        return kernels.backward(x, residual, scale, shift, slope, grad, by_x, constant)
    reach = _reaching(_before_activation(x, residual, scale, shift), slope, grad)
    dx = _wide(scale) * reach + _wide(by_x) * x + _wide(constant)
    return dx.to(x.dtype), None if residual is None else reach.to(residual.dtype)


def _before_activation(x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
    made = x * _wide(scale) + _wide(shift)
    return made if residual is None else made + residual


def _reaching(made: Tensor, slope: Tensor | None, grad: Tensor) -> Tensor:
    return grad if slope is None else torch.where(made > 0, grad, grad * _wide(slope))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
