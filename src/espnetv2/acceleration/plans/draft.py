"""A plan under construction: memory for weights, scratch memory, and maps of its operations."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from espnetv2.acceleration.bands import bilinear_band
from espnetv2.acceleration.compiler import vector_lanes
from espnetv2.acceleration.plans.packing import Exact, Floats, Packed, exact
from espnetv2.acceleration.plans.plan import KINDS, COp, CPlanStage, Kind, Map, Operation, Plan, lay_out


class Draft:
    """A plan under construction.

    Args:
        shape: batch size, height and width of the input.
        packed: weights packed so far, by all plans of the network.
    """

    def __init__(self, shape: tuple[int, int, int], packed: Packed) -> None:
        self.n, self.height, self.width = shape
        self.packed = packed
        self.operations: list[Operation] = []
        self.kept: list[Any] = [packed]
        self.scratch = 0
        self.inner: list[tuple[int, Map]] = []
        """Address of a stage, and the map that it works on."""

    def map(self, channels: int, height: int, width: int) -> Map:
        """A map with consecutive channels."""
        return Map((channels + vector_lanes() - 1) // vector_lanes(), height, width, np.arange(channels))

    def need(self, vectors: int) -> None:
        """Reserve scratch memory for a thread that runs an operation."""
        self.scratch = max(self.scratch, vectors)

    def bands(self, before: tuple[int, int], after: tuple[int, int]) -> list[int]:
        """Addresses of the bands that interpolate rows and columns between two sizes."""
        bands = [bilinear_band(i, o) for i, o in zip(before, after, strict=True)]
        made = [band.for_kernels() for band in bands]
        self.kept += [bands, made]
        return [ctypes.addressof(band) for band in made]

    def floats(self, key: object, values: Exact) -> Floats:
        """``values`` as float32, created once per ``key``."""
        made: Floats = self.packed.get_or(key, lambda: np.ascontiguousarray(values, np.float32))
        return made

    def ints(self, key: object, values: Sequence[int]) -> npt.NDArray[np.int32]:
        """``values`` as int32, created once per ``key``."""
        made: npt.NDArray[np.int32] = self.packed.get_or(key, lambda: np.array(values, np.int32))
        return made

    def lanes(self, key: object, values: Exact, place: Map) -> Floats:
        """A value per channel where the channels are, zero elsewhere."""
        spread = np.zeros(place.blocks * vector_lanes())
        spread[place.lanes] = values
        return self.floats(key, spread)

    def slope(self, act: nn.PReLU, place: Map, first: int = 0) -> Floats:
        """An activation's slopes where the channels are, from block ``first`` on."""
        whole: Floats = self.lanes((act, "slope"), exact(act.weight), place)
        return whole[first * vector_lanes() :]

    def add(
        self,
        kind: Kind,
        x: Map | None,
        out: Map | None,
        *,
        residual: Map | None = None,
        other: Map | None = None,
        **values: Any,
    ) -> Operation:
        """Append an operation to the plan.

        Args:
            kind: of operation.
            x: the map that it reads.
            out: the map that it writes.
            residual: a second map that it reads.
            other: a third.
            values: fields of ``COp``; arrays by their addresses, None as a null pointer.
        """
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
        """Place every map in memory, so that maps that are needed at the same time do not overlap."""
        total = lay_out(self.operations, self.n)
        for operation in self.operations:
            for name, place in (*operation.reads, *operation.writes):
                if name:
                    setattr(operation.c, name, place.offset)
        for address, place in self.inner:
            CPlanStage.from_address(address).inner = place.offset
        ops = (COp * len(self.operations))(*(operation.c for operation in self.operations))
        kinds = tuple(operation.kind for operation in self.operations)
        return Plan(ops, kinds, total, self.scratch + 1, answer, dtype, self.kept, self.packed.arenas)
