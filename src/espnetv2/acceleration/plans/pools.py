"""The operations of a pyramid pooling."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from espnetv2.acceleration.bands import Band, bilinear, enlarged_taps, pooling
from espnetv2.acceleration.plans.draft import Draft
from espnetv2.acceleration.plans.layers import convolution, pointwise
from espnetv2.acceleration.plans.packing import affine, exact, stage_weights
from espnetv2.acceleration.plans.plan import CComposite, CPlanStage, Map
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, PyramidStage
from espnetv2.models.layers import BNAct


def pyramid_pool(draft: Draft, pool: EfficientPyramidPool, x: Map, order: Map | None = None) -> Map:
    """A pyramid pooling, its channels arranged as in ``order``."""
    projected = convolution(draft, pool.project, x)
    stages = [stage for stage in pool.stages if isinstance(stage, PyramidStage)]
    size = (x.height, x.width)
    array, kept = _plan_stages(size, tuple((*stage.inner_size(size), stage.scale) for stage in stages))
    draft.kept.append(kept)
    made = (CPlanStage * len(stages))(*array)
    draft.kept.append(made)
    inner = []
    for index, stage in enumerate(made):
        if stage.kind == 2:
            inner.append((index, Map(projected.blocks, stage.height, stage.width, projected.lanes)))
    weights = draft.packed.get_or((pool, "stages"), lambda: stage_weights(pool, stages, projected))
    common: dict[str, Any] = {"branches": len(stages), "extra": ctypes.addressof(made), "count": projected.blocks}
    first = draft.add("inner", projected, None, weight=weights[0], **common)
    merged = draft.map(len(projected.lanes), x.height, x.width)
    second = draft.add(
        "stages", projected, merged, weight=weights[0], scale=weights[1], shift=weights[2], slope=weights[3], **common
    )
    for index, inner_map in inner:
        first.writes.append(("", inner_map))
        second.reads.append(("", inner_map))
        draft.inner.append((ctypes.addressof(made) + index * ctypes.sizeof(CPlanStage), inner_map))
        draft.need(x.width + (inner_map.height + 2) * (inner_map.width + 2))
    widest = max([x.width, *(inner_map.width for _, inner_map in inner)])
    draft.need(len(stages) * 3 * (x.width + 2) + 3 * (x.width + 2) + widest)
    weight, shift = exact(pool.expand.weight)[:, :, 0, 0], None
    if pool.expand.bias is not None:
        shift = exact(pool.expand.bias)
    act = None
    if isinstance(pool.out_norm, BNAct):
        scale, offset = affine(pool.out_norm.bn)
        weight, shift, act = weight * scale[:, None], offset, pool.out_norm.act
    lanes = None if order is None else order.lanes
    return pointwise(draft, merged, pool.expand, weight, shift, act, lanes=lanes)


@functools.lru_cache(maxsize=64)
def _plan_stages(size: tuple[int, int], inner: tuple[tuple[int, int, float], ...]) -> tuple[tuple[CPlanStage, ...], list[Any]]:
    kept: list[Any] = []
    made = []
    for height, width, scale in inner:
        stage = CPlanStage(kind=0 if scale == 1.0 else 1 if scale > 1.0 else 2, height=height, width=width)
        if scale > 1.0:
            for name, inputs, outputs in (("rows", size[0], height), ("columns", size[1], width)):
                first, weight = enlarged_taps(inputs, outputs)
                kept += [first, weight]
                setattr(stage, name, CComposite(weight.shape[1], first.ctypes.data, weight.ctypes.data))
        elif scale < 1.0:
            maps = {
                "rows_in": pooling(size[0], height),
                "columns_in": pooling(size[1], width),
                "rows_out": bilinear(height, size[0]),
                "columns_out": bilinear(width, size[1]),
            }
            for name, matrix in maps.items():
                band = Band.of(matrix)
                kept.append(band)
                setattr(stage, name, band.for_kernels())
        made.append(stage)
    return tuple(made), kept
