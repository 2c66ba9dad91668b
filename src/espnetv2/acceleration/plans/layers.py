"""The operations for convolutions, average pooling and means, with what is fused into them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.plans.draft import Draft
from espnetv2.acceleration.plans.packing import Exact, Floats, affine, blocked, exact, folded_flat, in_panels
from espnetv2.acceleration.plans.plan import Map
from espnetv2.acceleration.sizes import BAND_ROWS
from espnetv2.models.layers import ConvBNAct


def convolution(draft: Draft, layer: ConvBNAct, x: Map) -> Map:
    """A convolution with its normalisation and activation: grouped 1x1, depthwise 3x3, or grouped 3x3."""
    if layer.conv.kernel_size == (1, 1):
        return pointwise(draft, x, layer, *folded_flat(layer.conv, layer.bn), layer.act)
    if layer.conv.groups == layer.conv.in_channels == layer.conv.out_channels:
        return depthwise(draft, layer, x)
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

    table, panels = draft.packed.get_or((layer, "conv"), pack)
    draft.add(
        "convolve",
        *(x, out),
        branches=x_per,
        classes=outs,
        table=table,
        weight=panels,
        shift=draft.lanes((layer, "shift"), shift, out),
        slope=draft.slope(layer.act, out),
    )
    draft.need(x_per * (BAND_ROWS + 2) * (x.width + 2))
    return out


def pointwise(
    draft: Draft,
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
    """A grouped 1x1 convolution.

    Args:
        draft: the plan to which the operation is added.
        x: its input.
        key: under which the packed weights are stored.
        weight: (outputs, inputs of a group), the normalisation folded in.
        shift: added, for each output.
        act: the activation, after the residual.
        into: an existing map, and the channel at which writing starts.
        residual: added; its channels are arranged like those of the result.
        lanes: position of each output; by default consecutive.
    """
    order = np.arange(len(weight)) if lanes is None else lanes
    part = Map(int(order.max()) // vector_lanes() + 1, x.height, x.width, order)
    out, channel = into or (part, 0)
    first = channel // vector_lanes()
    table, panels = draft.packed.get_or((key, "pointwise"), lambda: in_panels(weight[..., None], x, part))
    draft.add(
        "pointwise",
        *(x, out),
        out_first=first,
        res_first=first,
        count=part.blocks,
        residual=residual,
        table=table,
        weight=panels,
        shift=None if shift is None else draft.lanes((key, "shift"), shift, part),
        slope=None if act is None else draft.slope(act, out, first),
    )
    return out


def depthwise(draft: Draft, layer: ConvBNAct, x: Map) -> Map:
    """A depthwise 3x3 convolution: a pyramid of one branch."""
    return pyramid(draft, layer, x, [layer.conv], layer.bn, layer.act)


def pyramid(draft: Draft, key: nn.Module, x: Map, branches: Sequence[nn.Conv2d], bn: nn.Module, act: nn.PReLU) -> Map:
    """Depthwise 3x3 convolutions of one map at several dilations, each added to the next, concatenated (paper, section 3.2)."""
    stride, dilations = branches[0].stride[0], [branch.dilation[0] for branch in branches]
    width, per = len(x.lanes), x.blocks * vector_lanes()
    size = (x.height, x.width) if stride == 1 else (halved(x.height), halved(x.width))
    lanes = np.concatenate([x.lanes + k * per for k in range(len(branches))])
    out = Map(len(branches) * x.blocks, *size, lanes)
    weight = np.zeros((len(branches), per, 9))
    for k, branch in enumerate(branches):
        weight[k, x.lanes] = exact(branch.weight).reshape(width, 9)
    scale, shift = affine(bn)
    draft.add(
        "pyramid",
        *(x, out),
        count=x.blocks,
        stride=stride,
        branches=len(branches),
        table=draft.ints((key, "dilations"), dilations),
        weight=draft.floats((key, "branches"), blocked(weight)),
        scale=draft.lanes((key, "scale"), scale, out),
        shift=draft.lanes((key, "shift"), shift, out),
        slope=draft.slope(act, out),
    )
    pad = max(dilations)
    rows = (min(BAND_ROWS, out.height) - 1) * stride + 1 + 2 * pad
    draft.need(out.width + rows * (x.width + 2 * pad))
    return out


def average(draft: Draft, x: Map, into: Map | None = None, residual: Map | None = None, act: nn.PReLU | None = None) -> Map:
    """Average pooling by two, into ``into`` if given, with residual and activation."""
    out = into or draft.map(len(x.lanes), halved(x.height), halved(x.width))
    slope = None if act is None else draft.slope(act, out)
    draft.add("average", x, out, count=x.blocks, residual=residual, slope=slope)
    return out


def mean(draft: Draft, x: Map) -> Map:
    """The mean of every channel."""
    out = Map(x.blocks, 1, 1, x.lanes)
    draft.add("mean", x, out, count=x.blocks)
    return out


def halved(side: int) -> int:
    """The length of a side after a stride of two."""
    return (side + 1) // 2
