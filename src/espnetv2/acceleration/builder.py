"""A network at one input size as a list of operations for the kernels."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from espnetv2.acceleration.bands import Band, bilinear, bilinear_band, enlarged_taps, pooling
from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.packing import (
    Exact,
    Floats,
    Packed,
    affine,
    blocked,
    exact,
    folded,
    folded_flat,
    in_panels,
    stage_weights,
)
from espnetv2.acceleration.plan import KINDS, CComposite, COp, CPlanStage, Kind, Map, Operation, Plan, lay_out
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, GatedProjection, PyramidDecoder, PyramidStage
from espnetv2.models.eesp import EESP, SplitTransformMerge, StridedEESP
from espnetv2.models.encoder import Level
from espnetv2.models.layers import BNAct, ConvBNAct
from espnetv2.models.segmentation import SegmentationModel

_ROWS = 16


def build_plan(
    network: ClassificationModel | SegmentationModel, shape: tuple[int, int, int], winners: int | None, packed: Packed
) -> Plan:
    """The network at one size.

    Args:
        network: in evaluation mode, float32, on the CPU; its decoder is "pyramid", if it has one.
        shape: pictures, height, width.
        winners: None for logits; else the answer is a class map, and of the outputs only so many can win.
        packed: weights made so far.
    """
    builder = _Builder(shape, packed)
    if isinstance(network, ClassificationModel):
        builder.classify(network)
        return builder.finish((shape[0], outputs(network)), torch.float32)
    builder.segment(network, winners)
    if winners is None:
        return builder.finish((shape[0], outputs(network), *shape[1:]), torch.float32)
    return builder.finish(shape, torch.uint8)


def outputs(network: ClassificationModel | SegmentationModel) -> int:
    """Outputs of the last layer, which may have been replaced since the network was made."""
    if isinstance(network, ClassificationModel):
        return network.classifier.out_features
    assert isinstance(network.decoder, PyramidDecoder)
    return network.decoder.pool1.expand.out_channels


class _Builder:
    def __init__(self, shape: tuple[int, int, int], packed: Packed) -> None:
        self.n, self.height, self.width = shape
        self.packed = packed
        self.operations: list[Operation] = []
        self.kept: list[Any] = [packed]
        self.scratch = 0
        self.inner: list[tuple[Operation, int, Map]] = []

    # The networks

    def classify(self, network: ClassificationModel) -> None:
        level4 = self._encoder(network)[-1]
        level5 = self._level(network.level5, level4, None)
        out = self._conv(network.expand, self._depthwise(network.depthwise, level5))
        pooled = self._mean(out)
        linear = network.classifier
        scores = self._pointwise(
            pooled, linear, exact(linear.weight), None if linear.bias is None else exact(linear.bias), None
        )
        self._add("vector", scores, None, classes=outputs(network))

    def segment(self, network: SegmentationModel, winners: int | None) -> None:
        decoder = network.decoder
        assert isinstance(decoder, PyramidDecoder)
        level1, level2, level3, level4 = self._encoder(network)
        steps = (
            (decoder.pool4, level3, decoder.skip3, decoder.fuse3),
            (decoder.pool3, level2, decoder.skip2, decoder.fuse2),
            (decoder.pool2, level1, decoder.skip1, decoder.fuse1),
        )
        below = level4
        for pool, level, skip, norm in steps:
            # What is added to the skip has to have its channels where the skip has them.
            projected = self._conv(skip.expand, level)
            below = self._fuse(skip, norm, level, projected, self._pool(pool, below, projected))
        out = self._pool(decoder.pool1, below)
        rows, columns = self._bands((out.height, out.width), (self.height, self.width))
        op = self._add(
            "logits" if winners is None else "classes",
            *(out, None),
            classes=outputs(network),
            stride=winners or 0,
            oh=self.height,
            ow=self.width,
            extra=rows,
            extra2=columns,
        )
        self._need(out.blocks * op.c.w)

    def _encoder(self, network: ClassificationModel | SegmentationModel) -> tuple[Map, Map, Map, Map]:
        encoder = network.encoder
        first = encoder.level1
        weight, shift = folded(first.conv, first.bn)
        level1 = self._map(weight.shape[0], _half(self.height), _half(self.width))
        taps = np.zeros((27, level1.blocks * vector_lanes()))
        taps[:, level1.lanes] = weight.reshape(len(weight), 27).T
        self._add(
            "image",
            *(None, level1),
            weight=self._floats((first, "taps"), taps),
            shift=self._lanes((first, "shift"), shift, level1),
            slope=self._slope(first.act, level1),
        )
        self._need((9 * (self.width + 2)) // vector_lanes() + 1)
        half = self._map(3, _half(self.height), _half(self.width))
        self._add("image_pool", None, half)
        self._need(self.width // vector_lanes() + 2)
        quarter = self._average(half)
        eighth = self._average(quarter)
        level2 = self._level(encoder.level2, level1, quarter)
        level3 = self._level(encoder.level3, level2, eighth)
        level4 = self._level(encoder.level4, level3, self._average(eighth))
        return level1, level2, level3, level4

    # Their parts

    def _level(self, level: Level, x: Map, image: Map | None) -> Map:
        out = self._down(level.down, x, image)
        for unit in level.units:
            assert isinstance(unit, EESP)
            # In place: a pixel of the residual is read just before the result takes its place.
            self._transform(unit, out, out, 0, unit.act, out if unit.residual else None)
        return out

    def _down(self, down: StridedEESP, x: Map, image: Map | None) -> Map:
        beside = len(x.lanes)
        out = self._map(beside + down.eesp.expand.conv.out_channels, _half(x.height), _half(x.width))
        shortcut = None
        if down.shortcut is not None and image is not None:
            mixed = self._conv(down.shortcut.mix, image)
            project = down.shortcut.project
            # Into the result's own memory, where what it is added to takes its place pixel by pixel.
            shortcut = self._pointwise(mixed, project, *folded_flat(project.conv, project.bn), None, into=(out, 0))
        self._average(x, into=out, residual=shortcut, act=down.act)
        self._transform(down.eesp, x, out, beside, down.act, shortcut)
        return out

    def _transform(
        self, unit: SplitTransformMerge, x: Map, out: Map, channel: int, act: nn.PReLU, residual: Map | None
    ) -> None:
        """A unit's expanded result into ``out`` from ``channel`` on."""
        reduce = unit.reduce
        reduced = self._pointwise(x, reduce, *folded_flat(reduce.conv, reduce.bn), reduce.act)
        branches = [branch for branch in unit.branches if isinstance(branch, nn.Conv2d)]
        fused = self._pyramid(unit, reduced, branches, unit.norm.bn, unit.norm.act)
        self._pointwise(
            fused, unit.expand, *folded_flat(unit.expand.conv, unit.expand.bn), act, into=(out, channel), residual=residual
        )

    def _depthwise(self, layer: ConvBNAct, x: Map) -> Map:
        return self._pyramid(layer, x, [layer.conv], layer.bn, layer.act)

    def _pyramid(self, key: nn.Module, x: Map, branches: Sequence[nn.Conv2d], bn: nn.Module, act: nn.PReLU) -> Map:
        stride, dilations = branches[0].stride[0], [branch.dilation[0] for branch in branches]
        width, per = len(x.lanes), x.blocks * vector_lanes()
        size = (x.height, x.width) if stride == 1 else (_half(x.height), _half(x.width))
        lanes = np.concatenate([x.lanes + k * per for k in range(len(branches))])
        out = Map(len(branches) * x.blocks, *size, lanes)
        weight = np.zeros((len(branches), per, 9))
        for k, branch in enumerate(branches):
            weight[k, x.lanes] = exact(branch.weight).reshape(width, 9)
        scale, shift = affine(bn)
        self._add(
            "pyramid",
            *(x, out),
            count=x.blocks,
            stride=stride,
            branches=len(branches),
            table=self._ints((key, "dilations"), dilations),
            weight=self._floats((key, "branches"), blocked(weight)),
            scale=self._lanes((key, "scale"), scale, out),
            shift=self._lanes((key, "shift"), shift, out),
            slope=self._slope(act, out),
        )
        pad = max(dilations)
        rows = (min(_ROWS, out.height) - 1) * stride + 1 + 2 * pad
        self._need(out.width + rows * (x.width + 2 * pad))
        return out

    def _average(self, x: Map, into: Map | None = None, residual: Map | None = None, act: nn.PReLU | None = None) -> Map:
        out = into or self._map(len(x.lanes), _half(x.height), _half(x.width))
        slope = None if act is None else self._slope(act, out)
        self._add("average", x, out, count=x.blocks, residual=residual, slope=slope)
        return out

    def _conv(self, layer: ConvBNAct, x: Map) -> Map:
        if layer.conv.kernel_size == (1, 1):
            return self._pointwise(x, layer, *folded_flat(layer.conv, layer.bn), layer.act)
        if layer.conv.groups == layer.conv.in_channels == layer.conv.out_channels:
            return self._depthwise(layer, x)
        scale, shift = affine(layer.bn)
        groups = layer.conv.groups
        weight = (exact(layer.conv.weight) * scale[:, None, None, None]).reshape(groups, -1, x_per := len(x.lanes) // groups, 9)
        outs, vectors = weight.shape[1], -(-groups // vector_lanes())
        group, output = np.divmod(np.arange(groups * outs), outs)
        out = Map(
            outs * vectors,
            x.height,
            x.width,
            (output * vectors + group // vector_lanes()) * vector_lanes() + group % vector_lanes(),
        )

        def pack() -> tuple[npt.NDArray[np.int32], Floats]:
            table = np.full((vectors * vector_lanes(), x_per), -1)
            table[:groups] = x.lanes.reshape(groups, x_per)
            spread = np.zeros((vectors * vector_lanes(), outs, x_per, 9))
            spread[:groups] = weight
            panels = spread.reshape(vectors, vector_lanes(), outs, x_per, 9).transpose(0, 2, 3, 4, 1)
            lanes = table.reshape(vectors, vector_lanes(), x_per).transpose(0, 2, 1)
            return np.ascontiguousarray(lanes, np.int32), np.ascontiguousarray(panels, np.float32)

        table, panels = self.packed.get_or((layer, "conv"), pack)
        self._add(
            "convolve",
            *(x, out),
            branches=x_per,
            classes=outs,
            table=table,
            weight=panels,
            shift=self._lanes((layer, "shift"), shift, out),
            slope=self._slope(layer.act, out),
        )
        self._need(x_per * (_ROWS + 2) * (x.width + 2))
        return out

    def _pointwise(
        self,
        x: Map,
        key: nn.Module,
        weight: Exact,
        shift: Exact | None,
        act: nn.PReLU | None,
        *,
        into: tuple[Map, int] | None = None,
        residual: Map | None = None,
        lanes: npt.NDArray[np.int64] | None = None,
    ) -> Map:
        order = np.arange(len(weight)) if lanes is None else lanes
        part = Map(int(order.max()) // vector_lanes() + 1, x.height, x.width, order)
        out, channel = into or (part, 0)
        first = channel // vector_lanes()
        table, panels = self.packed.get_or((key, "pointwise"), lambda: in_panels(weight[..., None], x, part))
        self._add(
            "pointwise",
            *(x, out),
            out_first=first,
            res_first=first,
            count=part.blocks,
            residual=residual,
            table=table,
            weight=panels,
            shift=None if shift is None else self._lanes((key, "shift"), shift, part),
            slope=None if act is None else self._slope(act, out, first),
        )
        return out

    def _mean(self, x: Map) -> Map:
        out = Map(x.blocks, 1, 1, x.lanes)
        self._add("mean", x, out, count=x.blocks)
        return out

    def _fuse(self, skip: GatedProjection, norm: BNAct, level: Map, projected: Map, below: Map) -> Map:
        means = self._mean(level)
        gate = Map(projected.blocks, 1, 1, projected.lanes)
        dense = np.zeros((level.blocks * vector_lanes(), gate.blocks * vector_lanes()))
        dense[np.ix_(level.lanes, gate.lanes)] = exact(skip.gate.weight)[:, :, 0, 0].T
        self._add("gate", means, gate, weight=self._floats((skip, "gate"), dense))
        out = projected  # in place, pixel by pixel
        rows, columns = self._bands((below.height, below.width), (out.height, out.width))
        scale, shift = affine(norm.bn)
        self._add(
            "fuse",
            *(below, out),
            residual=projected,
            other=gate,
            extra=rows,
            extra2=columns,
            scale=self._lanes((norm, "scale"), scale, out),
            shift=self._lanes((norm, "shift"), shift, out),
            slope=self._slope(norm.act, out),
        )
        self._need(below.width)
        return out

    def _pool(self, pool: EfficientPyramidPool, x: Map, order: Map | None = None) -> Map:
        projected = self._conv(pool.project, x)
        stages = [stage for stage in pool.stages if isinstance(stage, PyramidStage)]
        size = (x.height, x.width)
        array, kept = _plan_stages(size, tuple((*stage.inner_size(size), stage.scale) for stage in stages))
        self.kept.append(kept)
        made = (CPlanStage * len(stages))(*array)
        self.kept.append(made)
        inner = []
        for index, stage in enumerate(made):
            if stage.kind == 2:
                inner.append((index, Map(projected.blocks, stage.height, stage.width, projected.lanes)))
        weights = self.packed.get_or((pool, "stages"), lambda: stage_weights(pool, stages, projected))
        common: dict[str, Any] = {"branches": len(stages), "extra": ctypes.addressof(made), "count": projected.blocks}
        first = self._add("inner", projected, None, weight=weights[0], **common)
        merged = self._map(len(projected.lanes), x.height, x.width)
        second = self._add(
            "stages", projected, merged, weight=weights[0], scale=weights[1], shift=weights[2], slope=weights[3], **common
        )
        for index, inner_map in inner:
            first.writes.append(("", inner_map))
            second.reads.append(("", inner_map))
            self.inner.append((second, ctypes.addressof(made) + index * ctypes.sizeof(CPlanStage), inner_map))
            self._need(x.width + (inner_map.height + 2) * (inner_map.width + 2))
        widest = max([x.width, *(inner_map.width for _, inner_map in inner)])
        self._need(len(stages) * 3 * (x.width + 2) + 3 * (x.width + 2) + widest)
        weight, shift = exact(pool.expand.weight)[:, :, 0, 0], None
        if pool.expand.bias is not None:
            shift = exact(pool.expand.bias)
        act = None
        if isinstance(pool.out_norm, BNAct):
            scale, offset = affine(pool.out_norm.bn)
            weight, shift, act = weight * scale[:, None], offset, pool.out_norm.act
        lanes = None if order is None else order.lanes
        return self._pointwise(merged, pool.expand, weight, shift, act, lanes=lanes)

    # What they have in common

    def _map(self, channels: int, height: int, width: int) -> Map:
        return Map((channels + vector_lanes() - 1) // vector_lanes(), height, width, np.arange(channels))

    def _need(self, vectors: int) -> None:
        self.scratch = max(self.scratch, vectors)

    def _bands(self, before: tuple[int, int], after: tuple[int, int]) -> list[int]:
        bands = [bilinear_band(i, o) for i, o in zip(before, after, strict=True)]
        made = [band.for_kernels() for band in bands]
        self.kept += [bands, made]
        return [ctypes.addressof(band) for band in made]

    def _floats(self, key: object, values: Exact) -> Floats:
        made: Floats = self.packed.get_or(key, lambda: np.ascontiguousarray(values, np.float32))
        return made

    def _ints(self, key: object, values: Sequence[int]) -> npt.NDArray[np.int32]:
        made: npt.NDArray[np.int32] = self.packed.get_or(key, lambda: np.array(values, np.int32))
        return made

    def _lanes(self, key: object, values: Exact, place: Map) -> Floats:
        """A value per channel where the channels are, zero elsewhere."""
        spread = np.zeros(place.blocks * vector_lanes())
        spread[place.lanes] = values
        return self._floats(key, spread)

    def _slope(self, act: nn.PReLU, place: Map, first: int = 0) -> Floats:
        whole: Floats = self._lanes((act, "slope"), exact(act.weight), place)
        return whole[first * vector_lanes() :]

    def _add(
        self,
        kind: Kind,
        x: Map | None,
        out: Map | None,
        *,
        residual: Map | None = None,
        other: Map | None = None,
        **values: Any,
    ) -> Operation:
        c = COp(kind=KINDS[kind], n=self.n, input=-1, output=-1, residual=-1, other=-1, h=self.height, w=self.width)
        read = [(name, m) for name, m in (("input", x), ("residual", residual), ("other", other)) if m is not None]
        written = [] if out is None else [("output", out)]
        if x is not None:
            c.in_blocks, c.h, c.w = x.blocks, x.height, x.width
        if out is not None:
            c.out_blocks, c.count, c.oh, c.ow = out.blocks, out.blocks, out.height, out.width
        if residual is not None:
            c.res_blocks = residual.blocks
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self.kept.append(value)
                setattr(c, name, value.ctypes.data)
            elif value is not None:
                setattr(c, name, value)
        operation = Operation(kind, c, read, written)
        self.operations.append(operation)
        return operation

    def finish(self, answer: tuple[int, ...], dtype: torch.dtype) -> Plan:
        """Give every map a place, such that maps that are needed at the same time do not overlap."""
        total = lay_out(self.operations, self.n)
        for operation in self.operations:
            for name, place in (*operation.reads, *operation.writes):
                if name:
                    setattr(operation.c, name, place.offset)
        for _, address, place in self.inner:
            CPlanStage.from_address(address).inner = place.offset
        ops = (COp * len(self.operations))(*(operation.c for operation in self.operations))
        kinds = tuple(operation.kind for operation in self.operations)
        return Plan(ops, kinds, total, self.scratch + 1, answer, dtype, self.kept, self.packed.arenas)


def _half(side: int) -> int:
    return (side + 1) // 2


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
