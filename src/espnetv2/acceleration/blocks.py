"""Grouped 1x1 convolutions as products with block matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_blocks(weight: Tensor, groups: int, smallest: int) -> Tensor:
    """Block matrices (blocks, outs, ins) of a grouped convolution's weight (groups·out, in, ...).

    Groups are combined, with zeros between them, until a block has ``smallest`` rows and columns or cannot be doubled: small
    groups would not fill a vector or a matrix product.
    """
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    merged = 1
    while min(outs, ins) * merged < smallest and groups % (merged * 2) == 0:
        merged *= 2
    blocks = groups // merged
    each = weight.reshape(blocks, merged, outs, ins)
    if merged == 1:
        return each[:, 0]
    dense = weight.new_zeros(blocks, merged, outs, merged, ins)
    place = torch.arange(merged, device=weight.device)
    dense[:, place, :, place] = each.transpose(0, 1)
    return dense.reshape(blocks, merged * outs, merged * ins)
