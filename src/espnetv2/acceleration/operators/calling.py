"""Shared by the operators: which tensors the kernels support, and how they are passed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnetv2.acceleration.compiler import kernels, vector_lanes
from espnetv2.acceleration.sizes import MOST_VALUES


def is_traced() -> bool:
    """Whether something watches or transforms the operators: tracing and compilation, torch.func, make_fx, a FLOP counter."""
    internals: Any = torch._C
    return (
        torch.compiler.is_compiling()
        or bool(internals._is_tracing())
        or internals._len_torch_dispatch_stack() > 0
        or internals._functorch.peek_interpreter_stack() is not None
    )


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels support these: float32 on the CPU, no autocast, not empty, fewer than 2^31 elements.

    They access memory, which is not possible while a network is traced or compiled.
    """
    if torch.is_autocast_enabled("cpu") or is_traced():
        return False
    return all(
        t.device.type == "cpu"
        and t.dtype == torch.float32
        and 0 < t.numel() <= MOST_VALUES
        and type(t) in (Tensor, torch.nn.Parameter)
        for t in tensors
    )


def call(name: str, *arguments: Any, result: type[ctypes.c_int64] | None = None) -> Any:
    """Run a kernel on torch's threads; tensors are passed by address, None as a null pointer.

    Args:
        name: the function.
        arguments: without the number of threads, which comes last.
        result: type of the function's result, if any.
    """
    function = getattr(kernels(), name)
    function.restype = result
    given = [_pointer(a) if isinstance(a, Tensor) else a for a in arguments]
    return function(*given, torch.get_num_threads())


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def pixels(x: Tensor) -> Tensor:
    """The same with the channels of a pixel contiguous in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def new(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised (N, C, H, W) in the layout of ``pixels``."""
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def rows(x: Tensor) -> int:
    """Pixels of a batch."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def whole(channels: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // vector_lanes()) * vector_lanes()


def taps(sums: Tensor, weights: Tensor) -> Tensor:
    """Gradient of weights (K, C, 1, 3, 3) or (K, C, 3, 3) from its sums (N, K, 9, C rounded up)."""
    return sums.sum(0)[:, :, : weights.shape[1]].transpose(1, 2).reshape(weights.shape)
