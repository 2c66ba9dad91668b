"""What the operators share: which tensors the kernels take, and how they are handed over."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnetv2.acceleration.compiler import kernels, vector_lanes

PARTS = 8
"""Sums that are made side by side and added at the end: their number decides the rounding, so it is not the threads'."""
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


def call(name: str, *arguments: Any, result: type[ctypes.c_int64] | None = None) -> Any:
    """Run a kernel on torch's threads: tensors by their addresses, None as no address.

    Args:
        name: the function.
        arguments: without the number of threads, which comes last.
        result: what the function gives, if anything.
    """
    function = getattr(kernels(), name)
    function.restype = result
    given = [_pointer(a) if isinstance(a, Tensor) else a for a in arguments]
    return function(*given, torch.get_num_threads())


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def pixels(x: Tensor) -> Tensor:
    """The same with the channels of a pixel side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def new(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Memory for (N, C, H, W) laid out as by ``pixels``."""
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def rows(x: Tensor) -> int:
    """Pixels of a batch."""
    return x.shape[0] * x.shape[2] * x.shape[3]


def whole(channels: int) -> int:
    """So many channels filled up to whole vectors."""
    return -(-channels // vector_lanes()) * vector_lanes()


def taps(sums: Tensor, weights: Tensor) -> Tensor:
    """Gradient of weights (K, C, 1, 3, 3) or (K, C, 3, 3) from its sums (N, K, 9, C rounded up)."""
    return sums.sum(0)[:, :, : weights.shape[1]].transpose(1, 2).reshape(weights.shape)
