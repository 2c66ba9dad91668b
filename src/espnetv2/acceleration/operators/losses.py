"""Per-pixel losses: cross-entropy, and the sums of the soft Jaccard loss."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espnetv2.acceleration.operators.calling import call, new, pixels, rows
from espnetv2.acceleration.sizes import PARTS


def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Cross-entropy of every pixel, 0 for ignored pixels.

    Args:
        logits: (N, C, H, W), C at most 256.
        target: int64 class indices (N, H, W).
        ignore_index: the index of pixels without a class.

    Returns:
        (N, H, W).

    Raises:
        IndexError: a target is neither a class nor ``ignore_index``.
        ValueError: the target has another type, size or device.
    """
    out: Tensor = _CrossEntropy.apply(logits, target, ignore_index)
    return out


def soft_overlap(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The sums of which the soft Jaccard loss consists; arguments and errors as for ``cross_entropy``.

    Returns:
        (3, C): for each class, over all labelled pixels, the sum of its probability where it is correct, the sum of its
        probability, and the number of its pixels.
    """
    out: Tensor = _SoftOverlap.apply(logits, target, ignore_index)
    return out


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
        return _gradient("espnetv2_cross_entropy_backward", ctx, grad), None, None


class _SoftOverlap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        logits, target = _pixels_and_targets(logits, target)
        classes, size = logits.shape[1], ctypes.c_int64(rows(logits))
        sums = torch.empty(PARTS, 3, classes, dtype=torch.float64, device=logits.device)
        _call_for_targets("espnetv2_overlap", logits, target, sums, size, PARTS, classes, ignore_index)
        ctx.save_for_backward(logits, target)
        ctx.ignore_index = ignore_index
        return sums.sum(0).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _gradient("espnetv2_overlap_backward", ctx, grad), None, None


def _gradient(name: str, ctx: Any, grad: Tensor) -> Tensor:
    logits, target = ctx.saved_tensors
    dx, count = new(logits, logits.shape), ctypes.c_int64(rows(logits))
    call(name, logits, target, grad.contiguous(), dx, count, logits.shape[1], ctx.ignore_index)
    return dx


def _call_for_targets(name: str, logits: Tensor, target: Tensor, *arguments: Any) -> None:
    if call(name, logits, target, *arguments, result=ctypes.c_int64):
        raise IndexError(f"a target is neither one of {logits.shape[1]} classes nor {arguments[-1]}")


def _pixels_and_targets(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if target.dtype != torch.int64 or target.device != logits.device or target.shape != logits[:, 0].shape:
        raise ValueError(f"the target is {target.dtype} {tuple(target.shape)}: it must be int64 (N, H, W), as the logits")
    return pixels(logits), target.contiguous()
