"""Size-dependent tables for the kernel of the pyramid's stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espnetv2.acceleration.bands import Taps, enlarged_taps, plain_taps, reduced_taps
from espnetv2.models.decoders.pyramid import inner_size


class StageTables(NamedTuple):
    """Weights with which each of S stages reads its source, at one size (H, W).

    The result of a stage at (y, x) is the sum over taps a, b and shifts i, j of ``kernel[i, j] * rows[a, i, y] *
    columns[b, j, x] * source[row_first[y] + a, column_first[x] + b]``. The source is the input, or, for a stage that reduces,
    the input averaged to its inner size.
    """

    row_first: Tensor
    """(S, H), int32."""
    rows: Tensor
    """(S, T, 3, H), float32, T the most taps that a stage has."""
    column_first: Tensor
    """(S, W), int32."""
    columns: Tensor
    """(S, T, 3, W), float32."""
    sizes: Tensor
    """(S, 4), int32: taps of rows and of columns, height and width of the source."""


def stage_tables(size: tuple[int, int], scales: Sequence[float], device: torch.device) -> StageTables:
    """The tables for an input of ``size`` (height, width)."""
    per_axis: list[npt.NDArray[Any]] = []
    sizes = np.zeros((len(scales), 4), np.int32)
    for axis, side in enumerate(size):
        taps = []
        for stage, scale in enumerate(scales):
            inner = inner_size(size, scale)[axis]
            taps.append(_taps(side, inner, scale))
            sizes[stage, axis] = taps[-1][1].shape[1]
            sizes[stage, 2 + axis] = inner if scale < 1 else side
        per_axis.extend(_packed(taps))
    return StageTables(*(torch.from_numpy(array).to(device) for array in (*per_axis, sizes)))


def _taps(side: int, inner: int, scale: float) -> Taps:
    return plain_taps(side) if scale == 1 else enlarged_taps(side, inner) if scale > 1 else reduced_taps(inner, side)


def _packed(taps: Sequence[Taps]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    most = max(weight.shape[1] for _, weight in taps)
    weights = np.zeros((len(taps), most, 3, len(taps[0][0])), np.float32)
    for stage, (_, weight) in enumerate(taps):
        weights[stage, : weight.shape[1]] = weight.transpose(1, 2, 0)
    return np.stack([first for first, _ in taps]), weights
