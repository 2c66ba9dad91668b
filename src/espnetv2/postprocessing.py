"""From logits to predictions: class maps at the image's own size, probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BAND_VALUES = 2**24
MOST_IN_A_BYTE = 256


def class_map_type(classes: int) -> torch.dtype:
    """The smallest type of a class map that every runtime knows: uint8, or int32 beyond 256 classes."""
    return torch.uint8 if classes <= MOST_IN_A_BYTE else torch.int32


def class_map(logits: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
    """The most probable class of every pixel of the source.

    The logits are interpolated bilinearly to the source's size, and the largest determines the class. This runs in bands of
    rows, so that memory does not grow with the image.

    Args:
        logits: (outputs, h, w). Outputs from ``classes`` on are not classes and are ignored.
        classes: number of classes.
        size: height and width of the source.

    Returns:
        class indices (H, W) on the logits' device, uint8, or int32 beyond 256 classes.
    """
    logits = logits[:classes].float()
    height, width = size
    dtype = class_map_type(classes)
    if logits.shape[1:] == size:
        return _largest(logits).to(dtype)
    above, below, weight = _row_positions(logits.shape[1], height, logits.device)
    out = torch.empty(size, dtype=dtype, device=logits.device)
    rows = max(1, BAND_VALUES // (classes * width))
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        mixed = torch.lerp(logits[:, above[band]], logits[:, below[band]], weight[band, None])
        wide = F.interpolate(mixed[None], size=(mixed.shape[1], width), mode="bilinear", align_corners=False)[0]
        out[band] = _largest(wide).to(dtype)
    return out


def _largest(logits: Tensor) -> Tensor:
    # Several times faster on a CPU than argmax over the first axis.
    return logits.max(0).indices


def _row_positions(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every target row the two source rows around it, and the weight of the lower one."""
    centres = (torch.arange(target, dtype=torch.float64, device="cpu") + 0.5) * (source / target) - 0.5
    centres = centres.clamp(0, source - 1)
    above = centres.floor().long()
    below = (above + 1).clamp(max=source - 1)
    return above.to(device), below.to(device), (centres - above).float().to(device)


def top_classes(logits: Tensor, classes: int, count: int) -> tuple[tuple[int, float], ...]:
    """The ``count`` most probable of ``classes`` classes for one image's logits (outputs,): (index, probability)."""
    probabilities = logits[:classes].float().softmax(0)
    values, indices = probabilities.topk(min(count, classes))
    return tuple(zip(indices.tolist(), values.tolist(), strict=True))
