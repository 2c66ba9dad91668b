"""Depthwise 3x3 and grouped 1x1 convolutions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.blocks import dense_blocks
from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.operators.calling import call, new, pixels, rows, taps, whole
from espnetv2.acceleration.sizes import PANEL_ROWS, PARTS


def depthwise_pyramid(x: Tensor, weights: Sequence[Tensor], dilations: Sequence[int], stride: int) -> Tensor:
    """Depthwise 3x3 convolutions of one input at several dilations, each added to the next, concatenated.

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


class _DepthwisePyramid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, dilations: tuple[int, ...], stride: int) -> Tensor:
        x, weights = pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        out = new(x, (n, len(dilations) * c, (h - 1) // stride + 1, (w - 1) // stride + 1))
        call("espnetv2_depthwise_pyramid", x, weights, out, n, h, w, c, stride, len(dilations), _ints(dilations))
        ctx.save_for_backward(x, weights)
        ctx.dilations, ctx.stride = dilations, stride
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weights = ctx.saved_tensors
        n, c, h, w = x.shape
        k, stride = len(ctx.dilations), ctx.stride
        dx = new(x, x.shape) if ctx.needs_input_grad[0] else None
        dw = x.new_empty(n, k, 9, whole(c))
        call(
            "espnetv2_depthwise_pyramid_backward",
            *(x, weights, pixels(grad), dx, dw, n, h, w, c, stride, k, _ints(ctx.dilations)),
        )
        return dx, taps(dw, weights), None, None


class _DepthwiseMerge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, parts: int) -> Tensor:
        x, weights = pixels(x), weights.contiguous()
        n, c, h, w = x.shape
        out = new(x, (n, c // parts, h, w))
        call("espnetv2_depthwise_merge", x, weights, out, n, h, w, c // parts, parts)
        ctx.save_for_backward(x, weights)
        ctx.parts = parts
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weights = ctx.saved_tensors
        n, c, h, w = x.shape
        c //= ctx.parts
        dx, dw = new(x, x.shape), x.new_empty(n, ctx.parts, 9, whole(c))
        call("espnetv2_depthwise_merge_backward", x, weights, pixels(grad), dx, dw, n, h, w, c, ctx.parts)
        return dx, taps(dw, weights), None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        x = pixels(x)
        dense = dense_blocks(weight, groups, vector_lanes())
        out = new(x, (x.shape[0], weight.shape[0], *x.shape[2:]))
        _product(x, dense.transpose(1, 2), out)
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = pixels(grad)
        dense = dense_blocks(weight, ctx.groups, vector_lanes())
        blocks = len(dense)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = new(x, x.shape)
            _product(grad, dense, dx)
        outs, ins = dense.shape[1], dense.shape[2]
        sums = x.new_zeros(PARTS, blocks, -(-ins // PANEL_ROWS) * PANEL_ROWS, whole(outs))
        call("espnetv2_pointwise_weights", x, grad, sums, ctypes.c_int64(rows(x)), blocks, ins, outs)
        total = sums.sum(0)[:, :ins, :outs].transpose(1, 2)
        merged = ctx.groups // blocks
        each = total.reshape(blocks, merged, outs // merged, merged, ins // merged)
        diagonal = each.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        return dx, diagonal.reshape(weight.shape), None


def _product(x: Tensor, matrices: Tensor, out: Tensor) -> None:
    """Every pixel's channels times the block matrices (blocks, ins, outs)."""
    blocks, ins, outs = matrices.shape
    packed = torch.nn.functional.pad(matrices, (0, whole(outs) - outs)).contiguous()
    call("espnetv2_pointwise", x, packed, out, ctypes.c_int64(rows(x)), blocks, ins, outs)


def _ints(values: Sequence[int]) -> ctypes.Array[Any]:
    return (ctypes.c_int * len(values))(*values)
