"""A network at one input size as a list of operations for the kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.plans.draft import Draft
from espnetv2.acceleration.plans.layers import average, convolution, depthwise, halved, mean, pointwise, pyramid
from espnetv2.acceleration.plans.packing import Packed, affine, exact, folded, folded_flat
from espnetv2.acceleration.plans.plan import Map, Plan
from espnetv2.acceleration.plans.pools import pyramid_pool
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.pyramid import GatedProjection, PyramidDecoder
from espnetv2.models.eesp import EESP, SplitTransformMerge, StridedEESP
from espnetv2.models.encoder import Level
from espnetv2.models.layers import BNAct
from espnetv2.models.segmentation import SegmentationModel


def build_plan(
    network: ClassificationModel | SegmentationModel, shape: tuple[int, int, int], winners: int | None, packed: Packed
) -> Plan:
    """The network at one size.

    Args:
        network: in evaluation mode, float32, on the CPU; its decoder is "pyramid", if it has one.
        shape: batch size, height, width.
        winners: None for logits; otherwise the output is a class map, and this many of the outputs are valid classes.
        packed: weights packed so far.
    """
    draft = Draft(shape, packed)
    if isinstance(network, ClassificationModel):
        _classify(draft, network)
        return draft.finish((shape[0], outputs(network)), torch.float32)
    _segment(draft, network, winners)
    if winners is None:
        return draft.finish((shape[0], outputs(network), *shape[1:]), torch.float32)
    return draft.finish(shape, torch.uint8)


def outputs(network: ClassificationModel | SegmentationModel) -> int:
    """Outputs of the last layer, which may have been replaced since the network was created."""
    if isinstance(network, ClassificationModel):
        return network.classifier.out_features
    assert isinstance(network.decoder, PyramidDecoder)
    return network.decoder.pool1.expand.out_channels


def _classify(draft: Draft, network: ClassificationModel) -> None:
    level4 = _encoder(draft, network)[-1]
    level5 = _level(draft, network.level5, level4, None)
    out = convolution(draft, network.expand, depthwise(draft, network.depthwise, level5))
    pooled = mean(draft, out)
    linear = network.classifier
    scores = pointwise(draft, pooled, linear, exact(linear.weight), None if linear.bias is None else exact(linear.bias), None)
    draft.add("vector", scores, None, classes=outputs(network))


def _segment(draft: Draft, network: SegmentationModel, winners: int | None) -> None:
    decoder = network.decoder
    assert isinstance(decoder, PyramidDecoder)
    level1, level2, level3, level4 = _encoder(draft, network)
    steps = (
        (decoder.pool4, level3, decoder.skip3, decoder.fuse3),
        (decoder.pool3, level2, decoder.skip2, decoder.fuse2),
        (decoder.pool2, level1, decoder.skip1, decoder.fuse1),
    )
    below = level4
    for pool, level, skip, norm in steps:
        # The channels of what is added to the skip must be arranged like those of the skip.
        projected = convolution(draft, skip.expand, level)
        below = _fuse(draft, skip, norm, level, projected, pyramid_pool(draft, pool, below, projected))
    out = pyramid_pool(draft, decoder.pool1, below)
    rows, columns = draft.bands((out.height, out.width), (draft.height, draft.width))
    op = draft.add(
        "logits" if winners is None else "classes",
        *(out, None),
        classes=outputs(network),
        stride=winners or 0,
        oh=draft.height,
        ow=draft.width,
        extra=rows,
        extra2=columns,
    )
    draft.need(out.blocks * op.c.w)


def _encoder(draft: Draft, network: ClassificationModel | SegmentationModel) -> tuple[Map, Map, Map, Map]:
    encoder = network.encoder
    first = encoder.level1
    weight, shift = folded(first.conv, first.bn)
    level1 = draft.map(weight.shape[0], halved(draft.height), halved(draft.width))
    taps = np.zeros((27, level1.blocks * vector_lanes()))
    taps[:, level1.lanes] = weight.reshape(len(weight), 27).T
    draft.add(
        "image",
        *(None, level1),
        weight=draft.floats((first, "taps"), taps),
        shift=draft.lanes((first, "shift"), shift, level1),
        slope=draft.slope(first.act, level1),
    )
    draft.need((9 * (draft.width + 2)) // vector_lanes() + 1)
    half = draft.map(3, halved(draft.height), halved(draft.width))
    draft.add("image_pool", None, half)
    draft.need(draft.width // vector_lanes() + 2)
    quarter = average(draft, half)
    eighth = average(draft, quarter)
    level2 = _level(draft, encoder.level2, level1, quarter)
    level3 = _level(draft, encoder.level3, level2, eighth)
    level4 = _level(draft, encoder.level4, level3, average(draft, eighth))
    return level1, level2, level3, level4


def _level(draft: Draft, level: Level, x: Map, image: Map | None) -> Map:
    out = _down(draft, level.down, x, image)
    for unit in level.units:
        assert isinstance(unit, EESP)
        # In place: a pixel of the residual is read just before the result takes its place.
        _transform(draft, unit, out, out, 0, unit.act, out if unit.residual else None)
    return out


def _down(draft: Draft, down: StridedEESP, x: Map, image: Map | None) -> Map:
    beside = len(x.lanes)
    out = draft.map(beside + down.eesp.expand.conv.out_channels, halved(x.height), halved(x.width))
    shortcut = None
    if down.shortcut is not None and image is not None:
        mixed = convolution(draft, down.shortcut.mix, image)
        project = down.shortcut.project
        # Into the result's own memory, where the sum replaces it pixel by pixel.
        shortcut = pointwise(draft, mixed, project, *folded_flat(project.conv, project.bn), None, into=(out, 0))
    average(draft, x, into=out, residual=shortcut, act=down.act)
    _transform(draft, down.eesp, x, out, beside, down.act, shortcut)
    return out


def _transform(
    draft: Draft, unit: SplitTransformMerge, x: Map, out: Map, channel: int, act: nn.PReLU, residual: Map | None
) -> None:
    """A unit's expanded result into ``out`` from ``channel`` on."""
    reduce = unit.reduce
    reduced = pointwise(draft, x, reduce, *folded_flat(reduce.conv, reduce.bn), reduce.act)
    branches = [branch for branch in unit.branches if isinstance(branch, nn.Conv2d)]
    fused = pyramid(draft, unit, reduced, branches, unit.norm.bn, unit.norm.act)
    pointwise(
        draft, fused, unit.expand, *folded_flat(unit.expand.conv, unit.expand.bn), act, into=(out, channel), residual=residual
    )


def _fuse(draft: Draft, skip: GatedProjection, norm: BNAct, level: Map, projected: Map, below: Map) -> Map:
    means = mean(draft, level)
    gate = Map(projected.blocks, 1, 1, projected.lanes)
    dense = np.zeros((level.blocks * vector_lanes(), gate.blocks * vector_lanes()))
    dense[np.ix_(level.lanes, gate.lanes)] = exact(skip.gate.weight)[:, :, 0, 0].T
    draft.add("gate", means, gate, weight=draft.floats((skip, "gate"), dense))
    out = projected  # in place, pixel by pixel
    rows, columns = draft.bands((below.height, below.width), (out.height, out.width))
    scale, shift = affine(norm.bn)
    draft.add(
        "fuse",
        *(below, out),
        residual=projected,
        other=gate,
        extra=rows,
        extra2=columns,
        scale=draft.lanes((norm, "scale"), scale, out),
        shift=draft.lanes((norm, "shift"), shift, out),
        slope=draft.slope(norm.act, out),
    )
    draft.need(below.width)
    return out
