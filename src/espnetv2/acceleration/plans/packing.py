"""Weights in the order in which the kernels read them, with normalisation folded in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.plans.plan import Map
from espnetv2.models import layers
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, PyramidStage

Floats = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]


class Packed(dict[Any, Any]):
    """Weights in the kernels' order; like the memory to run in, the plans of a network at several sizes share them."""

    def __init__(self) -> None:
        super().__init__()
        self.arenas: list[Tensor] = []

    def get_or(self, key: object, make: Callable[[], Any]) -> Any:
        """The value stored under ``key``, created at the first call."""
        if key not in self:
            self[key] = make()
        return self[key]


def exact(tensor: Tensor) -> Exact:
    """A parameter in double precision, so that folding rounds once."""
    found: Exact = tensor.detach().double().numpy()
    return found


def affine(bn: nn.Module) -> tuple[Exact, Exact]:
    """Normalisation in evaluation mode, as scale and shift."""
    scale, shift = layers.affine(bn)
    return exact(scale), exact(shift)


def folded(conv: nn.Conv2d, bn: nn.Module) -> tuple[Exact, Exact]:
    """Dense weights (out, in, kh, kw) and shift of a convolution with its normalisation folded in."""
    scale, shift = affine(bn)
    weight = exact(conv.weight)
    outs, ins = weight.shape[0] // conv.groups, weight.shape[1]
    dense = np.zeros((weight.shape[0], ins * conv.groups, *weight.shape[2:]))
    for group in range(conv.groups):
        rows = slice(group * outs, (group + 1) * outs)
        dense[rows, group * ins : (group + 1) * ins] = weight[rows]
    return dense * scale[:, None, None, None], shift


def folded_flat(conv: nn.Conv2d, bn: nn.Module) -> tuple[Exact, Exact]:
    """Like ``folded``, of a 1x1 convolution: weights (out, in)."""
    dense, shift = folded(conv, bn)
    return dense[:, :, 0, 0], shift


def blocked(weight: Exact) -> Exact:
    """(S, lanes, 9) -> (S, blocks, 9, L)."""
    return weight.reshape(weight.shape[0], -1, vector_lanes(), 9).transpose(0, 1, 3, 2)


def in_panels(weight: Exact, x: Map, out: Map) -> tuple[npt.NDArray[np.int32], Floats]:
    """Weights (out, in, taps) as one panel (lanes read, taps, L) for each output block, and the table that finds them."""
    spread = np.zeros((out.blocks * vector_lanes(), x.blocks * vector_lanes(), weight.shape[2]))
    spread[np.ix_(out.lanes, x.lanes)] = weight
    table, panels, at = [], [], 0
    for block in range(out.blocks):
        rows = spread[block * vector_lanes() : (block + 1) * vector_lanes()]
        used = np.flatnonzero(rows.any(axis=(0, 2)))
        start, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        panel = rows[:, start:end].transpose(1, 2, 0)
        table.append((start, end, at))
        panels.append(panel.ravel())
        at += panel.size
    return np.array(table, np.int32), np.concatenate(panels).astype(np.float32)


def stage_weights(pool: EfficientPyramidPool, stages: Sequence[PyramidStage], place: Map) -> tuple[Floats, ...]:
    """Taps of stages and merge, scale, shift and slope of both, in the order of the kernel."""
    count, channels, lanes = len(stages), len(place.lanes), place.blocks * vector_lanes()
    scale, shift = (values.reshape(count, channels) for values in affine(pool.norm.bn))
    slope = exact(pool.norm.act.weight).reshape(count, channels)
    merge_scale, merge_shift = affine(pool.merge.bn)
    merge = exact(pool.merge.conv.weight).reshape(channels, count, 9) * merge_scale[:, None, None]
    taps = np.zeros((2 * count, lanes, 9))
    scales, shifts, slopes = np.zeros((count, lanes)), np.zeros((count + 1, lanes)), np.zeros((count + 1, lanes))
    for s, stage in enumerate(stages):
        taps[s, place.lanes] = exact(stage.conv.weight).reshape(channels, 9)
        taps[count + s, place.lanes] = merge[:, s]
        scales[s, place.lanes], shifts[s, place.lanes], slopes[s, place.lanes] = scale[s], shift[s], slope[s]
    shifts[count, place.lanes] = merge_shift
    slopes[count, place.lanes] = exact(pool.merge.act.weight)
    return tuple(np.ascontiguousarray(values, np.float32) for values in (blocked(taps), scales, shifts, slopes))
