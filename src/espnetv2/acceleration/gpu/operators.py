"""The operators as torch knows them (``torch.ops.espnetv2``): shapes for tracing, gradients, and which code computes them.

On a GPU the Triton kernels run. Everything else (no Triton, another device, float64, 2^31 elements) is computed by
``reference.py``, which also says what arguments mean. ``torch.compile`` and ``torch.export`` take an operator as a whole.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.library import custom_op

from espnetv2.acceleration.gpu import reference
from espnetv2.acceleration.gpu.layout import layout, new

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

KERNEL_TYPES = (torch.float32, torch.float16, torch.bfloat16)
_MOST = 2**31 - 1
Shape = tuple[int, ...]


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed. It is not imported."""
    return importlib.util.find_spec("triton") is not None


def usable(x: Tensor, result: Shape) -> bool:
    """Whether the kernels take ``x`` and can write a result of that shape: they count elements in 32 bits."""
    values = math.prod(result)
    return (
        x.device.type == "cuda" and has_triton() and x.dtype in KERNEL_TYPES and 0 < values <= _MOST and 0 < x.numel() <= _MOST
    )


def _operator(
    plain: Callable[..., Tensor], module: str, shape: Callable[..., Shape], dtype: torch.dtype | None = None
) -> CustomOpDef:
    """The operator that computes what ``plain`` does, by the kernel of the same name in a module of ``kernels``.

    Args:
        plain: its first argument is the tensor whose layout the result has.
        module: name of the module.
        shape: of the result, given the same arguments.
        dtype: of the result, if not the first argument's.
    """

    @functools.wraps(plain)
    def computed(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        out: Tensor = plain(x, *arguments, **named)
        # Tracing promises this layout.
        return out if dtype else out.contiguous(memory_format=layout(x))

    made = custom_op(f"espnetv2::{plain.__name__}", computed, mutates_args=())

    @made.register_kernel("cuda")
    def _(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if not usable(x, shape(x, *arguments, **named)):
            return computed(x, *arguments, **named)
        kernel = getattr(import_module(f"espnetv2.acceleration.gpu.kernels.{module}"), plain.__name__)
        out: Tensor = kernel(x, *arguments, **named)
        return out

    @made.register_fake
    def _(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        result = shape(x, *arguments, **named)
        return x.new_empty(result, dtype=dtype) if dtype else new(x, result)

    return made


def _strided(x: Tensor, channels: int, stride: int) -> Shape:
    return x.shape[0], channels, (x.shape[2] - 1) // stride + 1, (x.shape[3] - 1) // stride + 1


def _of_branches(x: Tensor, weight: Tensor, _: Sequence[int], stride: int, *__: Tensor) -> Shape:
    return _strided(x, weight.shape[0] * weight.shape[1], stride)


def _of_pointwise(x: Tensor, weight: Tensor, *_: Tensor | None) -> Shape:
    return x.shape[0], weight.shape[0] * weight.shape[1], x.shape[2], x.shape[3]


def _of_convolve(x: Tensor, weight: Tensor, _: int, stride: int, *__: Any) -> Shape:
    return _strided(x, weight.shape[0], stride)


def _of_stages(x: Tensor, weight: Tensor, *_: Any) -> Shape:
    return x.shape[0], weight.shape[0] * weight.shape[1], x.shape[2], x.shape[3]


def _of_fuse(skip: Tensor, *_: Tensor) -> Shape:
    return tuple(skip.shape)


def _of_join(x: Tensor, expanded: Tensor, *_: Tensor | None) -> Shape:
    return x.shape[0], x.shape[1] + expanded.shape[1], expanded.shape[2], expanded.shape[3]


def _of_classes(logits: Tensor, height: int, width: int, _: int) -> Shape:
    return logits.shape[0], height, width


branches = _operator(reference.branches, "branches", _of_branches)
middle = _operator(reference.middle, "branches", _of_branches)
pointwise = _operator(reference.pointwise, "pointwise", _of_pointwise)
convolve = _operator(reference.convolve, "convolve", _of_convolve)
stages = _operator(reference.stages, "stages", _of_stages)
fuse = _operator(reference.fuse, "resize", _of_fuse)
join = _operator(reference.join, "join", _of_join)
classes = _operator(reference.classes, "resize", _of_classes, torch.uint8)


def _branches_backward(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    dx, dw = reference.branches_backward(grad, x, weight, dilations, stride)
    return dx.contiguous(memory_format=layout(x)), dw.contiguous()


branches_backward = custom_op("espnetv2::branches_backward", _branches_backward, mutates_args=())


@branches_backward.register_kernel("cuda")
def _(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    if not usable(x, grad.shape):
        return _branches_backward(grad, x, weight, dilations, stride)
    from espnetv2.acceleration.gpu.kernels import branches as kernels

    return kernels.branches_backward(grad, x, weight, dilations, stride)


@branches_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    del grad, dilations, stride
    return new(x, x.shape), weight.new_empty(weight.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, weight, ctx.dilations, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return *branches_backward(grad, *ctx.saved_tensors, ctx.dilations, ctx.stride), None, None


branches.register_autograd(_gradients, setup_context=_keep)
