"""Differentiable operators of the network's training step, computed by the kernels on channels-last float32 tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.bands import Scale, Stages, bilinear_band, pyramid_stages
from espnetv2.acceleration.compiler import kernels, vector_lanes

MOST_CLASSES = 256
"""Of ``cross_entropy`` and ``soft_overlap``."""
_PARTS = 8
_ROW_PANEL = 6
_MOST = 2**31 - 1


def is_traced() -> bool:
    """Whether a network is called to be written down, by torch.jit.trace, torch.export or torch.compile."""
    jit: Any = torch.jit
    return torch.compiler.is_compiling() or bool(jit.is_tracing())


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can take these: float32 on the CPU, no autocast, not empty, fewer than 2^31 elements.

    They see memory, which what traces or compiles a network does not.
    """
    if torch.is_autocast_enabled("cpu") or is_traced():
        return False
    return all(
        t.device.type == "cpu"
        and t.dtype == torch.float32
        and 0 < t.numel() <= _MOST
        and type(t) in (Tensor, torch.nn.Parameter)
        for t in tensors
    )


def depthwise_pyramid(x: Tensor, weights: Sequence[Tensor], dilations: Sequence[int], stride: int) -> Tensor:
    """Depthwise 3x3 convolutions of one input at several dilations, each added to the next, side by side.

    Paper, section 3.2: hierarchical feature fusion.

    Args:
        x: (N, C, H, W).
        weights: K tensors (C, 1, 3, 3).
        dilations: K of them; the padding keeps the size.
        stride: of all.

    Returns:
        (N, K·C, ceil(H/stride), ceil(W/stride)).
    """
    stacked = weights[0][None] if len(weights) == 1 else torch.stack(list(weights))
    out: Tensor = _DepthwisePyramid.apply(x, stacked, tuple(dilations), stride)
    return out


def depthwise_merge(x: Tensor, weight: Tensor, parts: int) -> Tensor:
    """Grouped 3x3 convolution of ``parts`` maps for each of C channels: (N, parts·C, H, W) -> (N, C, H, W).

    Args:
        x: the channels of one part after those of another, not shuffled.
        weight: (C, parts, 3, 3).
        parts: how many.
    """
    out: Tensor = _DepthwiseMerge.apply(x, weight.transpose(0, 1), parts)
    return out


def pointwise(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Grouped 1x1 convolution: (N, C, H, W) and (out, C/groups, 1, 1) -> (N, out, H, W)."""
    out: Tensor = _Pointwise.apply(x, weight, groups)
    return out


def stages(x: Tensor, weights: Sequence[Tensor], scales: Sequence[Scale | None]) -> Tensor:
    """Depthwise 3x3 convolutions of one input, each seen at a scale of its own, side by side.

    Args:
        x: (N, C, H, W).
        weights: S tensors (C, 1, 3, 3).
        scales: the size at which each runs, or None where that is the input's own.

    Returns:
        (N, S·C, H, W).
    """
    out: Tensor = _Stages.apply(x, torch.stack(list(weights)), tuple(scales))
    return out


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation with aligned corners: (N, C, H, W) -> (N, C, *size)."""
    out: Tensor = _Resize.apply(x, size)
    return out


def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Cross-entropy of every pixel, 0 where there is nothing to learn.

    Args:
        logits: (N, C, H, W), C at most 256.
        target: int64 class indices (N, H, W).
        ignore_index: the index of pixels without class.

    Returns:
        (N, H, W).

    Raises:
        IndexError: a target is neither a class nor ``ignore_index``.
        ValueError: the target is of another type, size or device.
    """
    out: Tensor = _CrossEntropy.apply(logits, target, ignore_index)
    return out


def soft_overlap(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """What the soft Jaccard loss is made of; arguments and errors as for ``cross_entropy``.

    Returns:
        (3, C): for each class, over all pixels that have one, the sum of its probability where it is right, the sum of its
        probability, and the number of its pixels.
    """
    out: Tensor = _SoftOverlap.apply(logits, target, ignore_index)
    return out


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every channel of (N, C, H, W)."""
    x = _pixels(x)
    mean, variance = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    _call("espnetv2_moments", x, mean, variance, ctypes.c_int64(rows(x)), x.shape[1])
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
        mean: what to normalise by, (C).
        variance: biased, (C).
        eps: added to the variance.
        slope: PReLU's, (C), or None for no activation.
        residual: added before the activation.
        batch: mean and variance are those of ``x``, so its gradient goes through them.
    """
    inverse = torch.rsqrt(variance + eps)
    out: Tensor = _NormAct.apply(x, gamma, beta, mean, inverse, slope, residual, batch)
    return out


def activation(x: Tensor, slope: Tensor, residual: Tensor | None) -> Tensor:
    """``prelu(x + residual)`` with a slope for each channel."""
    out: Tensor = _NormAct.apply(x, None, None, None, None, slope, residual, False)
    return out


class _DepthwisePyramid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, dilations: tuple[int, ...], stride: int) -> Tensor:
        x, weights = _pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        out = _new(x, (n, len(dilations) * c, (h - 1) // stride + 1, (w - 1) // stride + 1))
        _call("espnetv2_depthwise_pyramid", x, weights, out, n, h, w, c, stride, len(dilations), _ints(dilations))
        ctx.save_for_backward(x, weights)
        ctx.dilations, ctx.stride = dilations, stride
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weights = ctx.saved_tensors
        n, c, h, w = x.shape
        k, stride = len(ctx.dilations), ctx.stride
        dx = _new(x, x.shape) if ctx.needs_input_grad[0] else None
        dw = x.new_empty(n, k, 9, _whole(c))
        _call(
            "espnetv2_depthwise_pyramid_backward",
            *(x, weights, _pixels(grad), dx, dw, n, h, w, c, stride, k, _ints(ctx.dilations)),
        )
        return dx, _taps(dw, weights), None, None


class _DepthwiseMerge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, parts: int) -> Tensor:
        x, weights = _pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        out = _new(x, (n, c // parts, h, w))
        _call("espnetv2_depthwise_merge", x, weights, out, n, h, w, c // parts, parts)
        ctx.save_for_backward(x, weights)
        ctx.parts = parts
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        n, c, h, w = x.shape
        c //= ctx.parts
        dx, dw = _new(x, x.shape), x.new_empty(n, ctx.parts, 9, _whole(c))
        _call("espnetv2_depthwise_merge_backward", x, weights, _pixels(grad), dx, dw, n, h, w, c, ctx.parts)
        return dx, _taps(dw, weights), None


class _Stages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, scales: tuple[Scale | None, ...]) -> Tensor:
        x, weights = _pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        found = pyramid_stages((h, w), scales)
        out = _new(x, (n, found.count * c, h, w))
        _call("espnetv2_stages", x, weights, out, n, h, w, c, found.count, found.array)
        ctx.save_for_backward(x, weights)
        ctx.stages = found
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        found: Stages = ctx.stages
        n, c, h, w = x.shape
        dx, dw = _new(x, x.shape), x.new_empty(n, found.count, 9, _whole(c))
        _call("espnetv2_stages_backward", x, weights, _pixels(grad), dx, dw, n, h, w, c, found.count, found.array)
        return dx, _taps(dw, weights), None


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.sizes = (x.shape[2], x.shape[3]), size
        return _resample(x, ctx.sizes[0], size, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _resample(grad, *ctx.sizes, transposed=True), None


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        logits, target = _pixels_and_targets(logits, target)
        loss = logits.new_empty(target.shape)
        size = ctypes.c_int64(rows(logits))
        _call_for_targets("espnetv2_cross_entropy", logits, target, loss, size, logits.shape[1], ignore_index)
        ctx.save_for_backward(logits, target)
        ctx.ignore_index = ignore_index
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, target = ctx.saved_tensors
        dx, count = _new(logits, logits.shape), ctypes.c_int64(rows(logits))
        _call(
            "espnetv2_cross_entropy_backward", logits, target, grad.contiguous(), dx, count, logits.shape[1], ctx.ignore_index
        )
        return dx, None, None


class _SoftOverlap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        logits, target = _pixels_and_targets(logits, target)
        classes, size = logits.shape[1], ctypes.c_int64(rows(logits))
        sums = torch.empty(_PARTS, 3, classes, dtype=torch.float64)
        _call_for_targets("espnetv2_overlap", logits, target, sums, size, _PARTS, classes, ignore_index)
        ctx.save_for_backward(logits, target)
        ctx.ignore_index = ignore_index
        return sums.sum(0).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, target = ctx.saved_tensors
        dx, count = _new(logits, logits.shape), ctypes.c_int64(rows(logits))
        _call("espnetv2_overlap_backward", logits, target, grad.contiguous(), dx, count, logits.shape[1], ctx.ignore_index)
        return dx, None, None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        x = _pixels(x)
        blocks, dense = _dense_blocks(weight, groups)
        out = _new(x, (x.shape[0], weight.shape[0], *x.shape[2:]))
        _product(x, dense.transpose(1, 2), out)
        ctx.save_for_backward(x, weight)
        ctx.groups, ctx.blocks = groups, blocks
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = _pixels(grad)
        blocks, dense = _dense_blocks(weight, ctx.groups)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = _new(x, x.shape)
            _product(grad, dense, dx)
        outs, ins = dense.shape[1], dense.shape[2]
        sums = x.new_zeros(_PARTS, blocks, -(-ins // _ROW_PANEL) * _ROW_PANEL, _whole(outs))
        _call("espnetv2_pointwise_weights", x, grad, sums, ctypes.c_int64(rows(x)), blocks, ins, outs)
        whole = sums.sum(0)[:, :ins, :outs].transpose(1, 2)
        merged = ctx.groups // blocks
        each = whole.reshape(blocks, merged, outs // merged, merged, ins // merged)
        diagonal = each.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        return dx, diagonal.reshape(weight.shape), None


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
        x = _pixels(x)
        residual = None if residual is None else _pixels(residual)
        scale = shift = None
        if gamma is not None and beta is not None and mean is not None and inverse is not None:
            scale = gamma * inverse
            shift = torch.addcmul(beta, mean, scale, value=-1)
        out = _new(x, x.shape)
        _call("espnetv2_scale_act", x, residual, scale, shift, slope, out, ctypes.c_int64(rows(x)), x.shape[1])
        ctx.save_for_backward(x, mean, inverse, scale, shift, slope, residual)
        ctx.batch = batch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, shift, slope, residual = ctx.saved_tensors
        grad = _pixels(grad)
        count, channels = rows(x), x.shape[1]
        inputs = (x, residual, grad, scale, shift, slope)
        needs = ctx.needs_input_grad
        by_dz, by_x, constant = scale, None, None
        dgamma = dbeta = dslope = None
        if ctx.batch or needs[1] or needs[2] or needs[5]:
            sums = x.new_empty(3, channels)
            _call("espnetv2_scale_act_sums", *inputs, mean, *sums.unbind(), ctypes.c_int64(count), channels)
            dslope = sums[2] if needs[5] else None
            if inverse is not None:
                dbeta, dgamma = sums[0], sums[1] * inverse
            if ctx.batch:
                by_x = -scale * inverse * dgamma / count
                constant = -scale * dbeta / count - by_x * mean
        dx = _new(x, x.shape) if needs[0] else None
        dres = _new(x, x.shape) if residual is not None and needs[6] else None
        if dx is not None and dres is not None and scale is None:
            dx = None  # both are the gradient before the activation
        _call("espnetv2_scale_act_backward", *inputs, by_dz, by_x, constant, dx, dres, ctypes.c_int64(count), channels)
        if scale is None and needs[0] and dx is None:
            dx = dres
        return dx, dgamma if needs[1] else None, dbeta if needs[2] else None, None, None, dslope, dres, None


def _call(name: str, *arguments: Any) -> None:
    function = getattr(kernels(), name)
    function.restype = None
    given = [_pointer(a) if isinstance(a, Tensor) else a for a in arguments]
    function(*given, torch.get_num_threads())


def _call_for_targets(name: str, logits: Tensor, target: Tensor, *arguments: Any) -> None:
    function = getattr(kernels(), name)
    function.restype = ctypes.c_int64
    given = [_pointer(a) if isinstance(a, Tensor) else a for a in (logits, target, *arguments)]
    if function(*given, torch.get_num_threads()):
        raise IndexError(f"a target is neither one of {logits.shape[1]} classes nor {arguments[-1]}")


def _pixels_and_targets(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if target.dtype != torch.int64 or target.device != logits.device or target.shape != logits[:, 0].shape:
        raise ValueError(f"the target is {target.dtype} {tuple(target.shape)}: int64 (N, H, W) of the logits is needed")
    return _pixels(logits), target.contiguous()


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pixels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _new(like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def rows(x: Tensor) -> int:
    """Pixels of a batch."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def _whole(channels: int) -> int:
    return -(-channels // vector_lanes()) * vector_lanes()


def _ints(values: Sequence[int]) -> ctypes.Array[Any]:
    return (ctypes.c_int * len(values))(*values)


def _taps(sums: Tensor, weights: Tensor) -> Tensor:
    """Gradient of weights (K, C, 1, 3, 3) or (K, C, 3, 3) from its sums (N, K, 9, C rounded up)."""
    return sums.sum(0)[:, :, : weights.shape[1]].transpose(1, 2).reshape(weights.shape)


def _dense_blocks(weight: Tensor, groups: int) -> tuple[int, Tensor]:
    """Groups put together, zeros between them, until a vector is filled: how many blocks, and (blocks, outs, ins)."""
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    merged = 1
    while min(outs, ins) * merged < vector_lanes() and groups % (merged * 2) == 0:
        merged *= 2
    blocks = groups // merged
    each = weight.reshape(blocks, merged, outs, ins)
    if merged == 1:
        return blocks, each[:, 0]
    dense = weight.new_zeros(blocks, merged, outs, merged, ins)
    place = torch.arange(merged)
    dense[:, place, :, place] = each.transpose(0, 1)
    return blocks, dense.reshape(blocks, merged * outs, merged * ins)


def _resample(x: Tensor, before: tuple[int, int], after: tuple[int, int], *, transposed: bool) -> Tensor:
    """Resize from ``before`` to ``after``, or apply the transpose of that."""
    x = _pixels(x)
    n, c, h, w = x.shape
    bands = [bilinear_band(i, o, transposed=transposed) for i, o in zip(before, after, strict=True)]
    out = _new(x, (n, c, *(before if transposed else after)))
    _call("espnetv2_resample", x, out, n, h, w, c, *(ctypes.byref(band.for_kernels()) for band in bands))
    return out


def _product(x: Tensor, matrices: Tensor, out: Tensor) -> None:
    """Every pixel's channels times the block matrices (blocks, ins, outs)."""
    blocks, ins, outs = matrices.shape
    packed = torch.nn.functional.pad(matrices, (0, _whole(outs) - outs)).contiguous()
    _call("espnetv2_pointwise", x, packed, out, ctypes.c_int64(rows(x)), blocks, ins, outs)
