"""The operators registered in torch (``torch.ops.espnetv2``): shapes for tracing, gradients, and which code computes them.

On a GPU the Triton kernels run. Everything else (no Triton, another device, float64, 2^31 elements) is computed by
``reference.py``, which also documents the arguments. ``torch.compile`` and ``torch.export`` treat an operator as a unit.
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
from espnetv2.acceleration.gpu.layout import dense, laid_out_as, layout, new
from espnetv2.acceleration.sizes import MOST_VALUES

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

KERNEL_TYPES = (torch.float32, torch.float16, torch.bfloat16)
Shape = tuple[int, ...]


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed. It is not imported."""
    return importlib.util.find_spec("triton") is not None


def usable(x: Tensor, result: Shape) -> bool:
    """Whether the kernels support ``x`` and a result of that shape: they count elements in 32 bits."""
    values = math.prod(result)
    return (
        x.device.type == "cuda"
        and has_triton()
        and x.dtype in KERNEL_TYPES
        and 0 < values <= MOST_VALUES
        and 0 < x.numel() <= MOST_VALUES
    )


def _registered(
    plain: Callable[..., Any], module: str, largest: Callable[..., Shape], fake: Callable[..., Tensor | tuple[Tensor, Tensor]]
) -> CustomOpDef:
    """The operator that computes what ``plain`` does, by the kernel of the same name in a module of ``kernels``.

    Args:
        plain: its first argument determines type and device.
        module: name of the module.
        largest: shape of the largest map that is written, given the same arguments.
        fake: returns the results without their values.
    """
    made = custom_op(f"espnetv2::{plain.__name__}", plain, mutates_args=())

    @made.register_kernel("cuda")
    def _(x: Tensor, *arguments: Any, **named: Any) -> Any:
        if not usable(x, largest(x, *arguments, **named)):
            return plain(x, *arguments, **named)
        return getattr(import_module(f"espnetv2.acceleration.gpu.kernels.{module}"), plain.__name__)(x, *arguments, **named)

    made.register_fake(fake)
    return made


def _operator(
    plain: Callable[..., Tensor], module: str, shape: Callable[..., Shape], dtype: torch.dtype | None = None
) -> CustomOpDef:
    """The operator for a function with one result.

    Args:
        plain: its first argument is the tensor whose layout the result has.
        module: name of the module.
        shape: of the result, given the same arguments.
        dtype: of the result, if not the first argument's.
    """

    @functools.wraps(plain)
    def computed(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        out: Tensor = plain(x, *arguments, **named)
        # Tracing has promised this layout.
        return out if dtype else out.contiguous(memory_format=layout(x))

    def fake(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        result = shape(x, *arguments, **named)
        return x.new_empty(result, dtype=dtype) if dtype else new(x, result)

    return _registered(computed, module, shape, fake)


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


def _same(x: Tensor, *_: Any) -> Shape:
    return tuple(x.shape)


def _of_join(x: Tensor, expanded: Tensor, *_: Tensor | None) -> Shape:
    return x.shape[0], x.shape[1] + expanded.shape[1], expanded.shape[2], expanded.shape[3]


def _of_classes(logits: Tensor, height: int, width: int, _: int) -> Shape:
    return logits.shape[0], height, width


norm_act = _operator(reference.norm_act, "normalise", _same)
branches = _operator(reference.branches, "branches", _of_branches)
middle = _operator(reference.middle, "branches", _of_branches)
pointwise = _operator(reference.pointwise, "pointwise", _of_pointwise)
convolve = _operator(reference.convolve, "convolve", _of_convolve)
stages = _operator(reference.stages, "stages", _of_stages)
fuse = _operator(reference.fuse, "resize", _same)
join = _operator(reference.join, "join", _of_join)
classes = _operator(reference.classes, "resize", _of_classes, torch.uint8)


@functools.wraps(reference.branches_backward)
def _branches_backward(grad: Tensor, x: Tensor, weight: Tensor, dilations: Sequence[int], stride: int) -> tuple[Tensor, Tensor]:
    dx, dw = reference.branches_backward(grad, x, weight, dilations, stride)
    return dx.contiguous(memory_format=layout(x)), dw.contiguous()


def _fake_branches_backward(_: Tensor, x: Tensor, weight: Tensor, *__: Any) -> tuple[Tensor, Tensor]:
    return new(x, x.shape), weight.new_empty(weight.shape)


branches_backward = _registered(_branches_backward, "branches", _same, _fake_branches_backward)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, weight, ctx.dilations, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    return *branches_backward(grad, *ctx.saved_tensors, ctx.dilations, ctx.stride), None, None


branches.register_autograd(_gradients, setup_context=_keep)


@functools.wraps(reference.norm_act_backward)
def _norm_act_backward(x: Tensor, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
    dx, dresidual = reference.norm_act_backward(x, *arguments, **named)
    return dx.contiguous(memory_format=layout(x)), dresidual.contiguous(
        memory_format=layout(x)
    ) if dresidual.ndim == 4 else dresidual


def _fake_sums(x: Tensor, gamma: Tensor, *_: Any) -> Tensor:
    return gamma.new_empty((3, x.shape[1]), dtype=torch.promote_types(x.dtype, torch.float32))


def _fake_norm_act_backward(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    residual: Tensor | None = arguments[6]
    return new(x, x.shape), x.new_empty(0) if residual is None else new(x, x.shape).to(residual.dtype)


norm_act_sums = _registered(reference.norm_act_sums, "normalise", _same, _fake_sums)
norm_act_backward = _registered(_norm_act_backward, "normalise", _same, _fake_norm_act_backward)


def _keep_normalised(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.eps, slope, residual, ctx.batch = inputs
    ctx.save_for_backward(*tensors, slope, residual)


def _gradients_of_normalised(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, *tensors, slope, residual = ctx.saved_tensors
    # One copy of each if the layouts differ, not one for each kernel.
    x = dense(x)
    given = (x, *tensors, ctx.eps, slope, None if residual is None else laid_out_as(x, residual))
    grad = laid_out_as(x, grad)
    learns = [ctx.needs_input_grad[place] for place in (1, 2, 6)]
    sums = norm_act_sums(*given, grad) if ctx.batch or any(learns) else None
    dx, dresidual = norm_act_backward(*given, grad, sums if ctx.batch else None)
    dbeta, dgamma, dslope = (None, None, None) if sums is None else sums.unbind()
    return dx, dgamma, dbeta, None, None, None, None if slope is None else dslope, None if residual is None else dresidual, None


norm_act.register_autograd(_gradients_of_normalised, setup_context=_keep_normalised)
