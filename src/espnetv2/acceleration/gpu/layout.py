"""The two memory layouts of feature maps, NCHW and channels-last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dense(x: Tensor) -> Tensor:
    """``x`` itself if its layout is NCHW or channels-last without gaps, otherwise a copy that is."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def layout(x: Tensor) -> torch.memory_format:
    """The layout of a result for an input ``x``: the input's own, or NCHW."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def new(like: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor in the layout of a result for ``like``."""
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout(like))


def laid_out_as(like: Tensor, x: Tensor) -> Tensor:
    """``x`` with exactly the strides of a dense tensor of its shape."""
    # The strides of a side of one pixel may still differ, and do not matter.
    return x.contiguous(memory_format=layout(like)).as_strided(like.shape, like.stride())


def pixel_stride(x: Tensor) -> int:
    """The distance from one pixel of a dense tensor to the next. The stride of a side of one pixel is meaningless."""
    return x.stride(3) if x.shape[3] > 1 else x.stride(2)
