"""The operators in plain PyTorch, used without Triton or a GPU, or for types that the kernels do not support."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from espnetv2.models.decoders.pyramid import inner_size
from espnetv2.models.layers import average_pool


def branches(x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> Tensor:
    """Depthwise 3x3 convolutions of one input at several dilations, each added to the next, concatenated.

    Paper, section 3.2: hierarchical feature fusion.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3).
        dilations: K of them; the padding keeps the size.
        stride: of all.

    Returns:
        (N, K·C, ceil(H/stride), ceil(W/stride)).
    """
    fused: list[Tensor] = []
    for own, dilation in zip(weight.to(x.dtype), dilations, strict=True):
        made = F.conv2d(x, own[:, None], None, stride, dilation, dilation, x.shape[1])
        fused.append(made + fused[-1] if fused else made)
    return torch.cat(fused, dim=1)


def branches_backward(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    """Gradients of ``branches`` for the input, in its type, and for the weights, in theirs."""
    channels = x.shape[1]
    # A branch's result is part of its own map and of all later ones.
    reaching = grad.reshape(grad.shape[0], len(dilations), channels, *grad.shape[2:]).flip(1).cumsum(1).flip(1)
    dx, dw = torch.zeros_like(x), []
    for k, (own, dilation) in enumerate(zip(weight.to(x.dtype), dilations, strict=True)):
        one, other, _ = torch.ops.aten.convolution_backward(
            reaching[:, k], x, own[:, None], None, [stride] * 2, [dilation] * 2, [dilation] * 2, False, [0, 0], channels,
            [True, True, False],
        )  # fmt: skip
        dx = dx + one
        dw.append(other[:, 0])
    return dx, torch.stack(dw).to(weight.dtype)


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
    """``prelu(batch_norm(x) + residual)``, the same shape and type. For training.

    Args:
        x: (N, C, H, W).
        gamma: scale, (C).
        beta: shift, (C).
        mean: to normalise with, (C).
        variance: likewise; biased if it is the batch's.
        eps: added to the variance.
        slope: PReLU's, (C), or None for no activation.
        residual: added before the activation.
        batch: mean and variance are those of ``x``, so its gradient flows through them.
    """
    del batch
    made = _before_activation(x, gamma, beta, mean, variance, eps, residual)
    return (made if slope is None else torch.where(made > 0, made, made * _wide(slope))).to(x.dtype)


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
    """Gradients (3, C) of ``norm_act`` for beta, gamma and slope; zeros if there is no slope."""
    made = _before_activation(x, gamma, beta, mean, variance, eps, residual)
    reach = _reaching(made, slope, grad)
    negative = torch.zeros_like(made) if slope is None else torch.where(made > 0, 0.0, made * grad)
    return torch.stack([part.sum((0, 2, 3)) for part in (reach, reach * _normal(x, mean, variance, eps), negative)])


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
    """Gradients of ``norm_act`` for x and for the residual, which is empty if there is none.

    ``sums``, those of ``norm_act_sums``, are given if mean and variance are the batch's own.
    """
    reach = _reaching(_before_activation(x, gamma, beta, mean, variance, eps, residual), slope, grad)
    own = reach
    if sums is not None:
        count = x.numel() // x.shape[1]
        own = own - _wide(sums[0] / count) - _normal(x, mean, variance, eps) * _wide(sums[1] / count)
    dx = own * _wide(gamma * torch.rsqrt(variance + eps))
    return dx.to(x.dtype), x.new_empty(0) if residual is None else reach.to(residual.dtype, copy=True)


def _normal(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    return (x - _wide(mean)) * _wide(torch.rsqrt(variance + eps))


def _before_activation(
    x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float, residual: Tensor | None
) -> Tensor:
    made = _normal(x, mean, variance, eps) * _wide(gamma) + _wide(beta)
    return made if residual is None else made + residual


def _reaching(made: Tensor, slope: Tensor | None, grad: Tensor) -> Tensor:
    return grad if slope is None else torch.where(made > 0, grad, grad * _wide(slope))


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


def middle(
    x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int, scale: Tensor, shift: Tensor, slope: Tensor
) -> Tensor:
    """``branches``, normalised and activated.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3).
        dilations: K of them.
        stride: of all.
        scale: (K·C).
        shift: (K·C).
        slope: (K·C).

    Returns:
        (N, K·C, ceil(H/stride), ceil(W/stride)).
    """
    return affine(branches(x, weight, dilations, stride), scale, shift, slope)


def affine(x: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> Tensor:
    """``prelu(scale * x + shift)`` with one of each per channel."""
    scale, shift = (values.to(x.dtype)[:, None, None] for values in (scale, shift))
    return F.prelu(x * scale + shift, slope.to(x.dtype))


def pointwise(x: Tensor, weight: Tensor, shift: Tensor, slope: Tensor | None, residual: Tensor | None) -> Tensor:
    """Grouped 1x1 convolution, then ``prelu(out + shift + residual)``.

    Args:
        x: (N, G·in, H, W).
        weight: (G, out, in), of the input's type.
        shift: (G·out).
        slope: (G·out), or None for no activation.
        residual: added before the activation, (N, G·out, H, W).

    Returns:
        (N, G·out, H, W).
    """
    groups = weight.shape[0]
    out = F.conv2d(x, weight.flatten(0, 1)[:, :, None, None], shift.to(x.dtype), groups=groups)
    if residual is not None:
        out = out + residual
    return out if slope is None else F.prelu(out, slope.to(x.dtype))


def convolve(x: Tensor, weight: Tensor, groups: int, stride: int, shift: Tensor, slope: Tensor, shuffled: bool) -> Tensor:
    """Grouped 3x3 convolution and ``prelu(out + shift)``.

    Args:
        x: (N, G·in, H, W).
        weight: (G·out, in, 3, 3).
        groups: G.
        stride: of the convolution.
        shift: (G·out).
        slope: (G·out).
        shuffled: the i-th input of group g is channel i·G + g instead of g·in + i.

    Returns:
        (N, G·out, ceil(H/stride), ceil(W/stride)).
    """
    if shuffled:
        x = x.reshape(x.shape[0], -1, groups, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
    out = F.conv2d(x, weight.to(x.dtype), shift.to(x.dtype), stride, 1, 1, groups)
    return F.prelu(out, slope.to(x.dtype))


def stages(
    x: Tensor,
    weight: Tensor,
    scales: Sequence[float],
    tables: Sequence[Tensor],
    scale: Tensor,
    shift: Tensor,
    slope: Tensor,
) -> Tensor:
    """Depthwise 3x3 convolutions of one input, each at its own scale, concatenated, normalised and activated.

    Args:
        x: (N, C, H, W).
        weight: (S, C, 3, 3).
        scales: of each stage; one above 1 enlarges, convolves and averages back, one below does the reverse. Descending.
        tables: the ``StageTables`` of these scales at this size, for the kernel.
        scale: (S·C).
        shift: (S·C).
        slope: (S·C).

    Returns:
        (N, S·C, H, W).
    """
    del tables
    size, channels = (x.shape[2], x.shape[3]), x.shape[1]
    made = []
    for own, factor in zip(weight.to(x.dtype), scales, strict=True):
        inner = inner_size(size, factor)
        seen = x if factor == 1 else F.adaptive_avg_pool2d(x, inner) if factor < 1 else _resize(x, inner)
        out = F.conv2d(seen, own[:, None], padding=1, groups=channels)
        made.append(out if factor == 1 else _resize(out, size) if factor < 1 else F.adaptive_avg_pool2d(out, size))
    return affine(torch.cat(made, dim=1), scale, shift, slope)


def fuse(skip: Tensor, gate: Tensor, below: Tensor, scale: Tensor, shift: Tensor, slope: Tensor) -> Tensor:
    """``prelu(scale * (skip * gate + below) + shift)``, ``below`` enlarged to the size of ``skip``.

    Args:
        skip: (N, C, H, W).
        gate: (N, C, 1, 1).
        below: (N, C, h, w).
        scale: (C).
        shift: (C).
        slope: (C).

    Returns:
        (N, C, H, W).
    """
    return affine(skip * gate + _resize(below, (skip.shape[2], skip.shape[3])), scale, shift, slope)


def join(x: Tensor, expanded: Tensor, shortcut: Tensor | None, slope: Tensor) -> Tensor:
    """``prelu(cat(average_pool(x), expanded) + shortcut)``: (N, A, H, W) and (N, B, h, w) -> (N, A + B, h, w)."""
    out = torch.cat([average_pool(x), expanded], dim=1)
    return F.prelu(out if shortcut is None else out + shortcut, slope.to(x.dtype))


def classes(logits: Tensor, height: int, width: int, winners: int) -> Tensor:
    """Index of the largest of the first ``winners`` interpolated logits: (N, C <= 256, h, w) -> (N, height, width), uint8."""
    # In float32, as in the kernel: rounded values would tie.
    wide = logits[:, :winners]
    return _resize(wide if wide.dtype == torch.float64 else wide.float(), (height, width)).max(1).indices.to(torch.uint8)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
