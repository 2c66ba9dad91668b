"""A plan for the kernels: operations on maps, the maps' places in memory, and the call."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espnetv2.acceleration.bands import CBand
from espnetv2.acceleration.compiler import kernels, vector_lanes

_ALIGNED = 16
Kind = Literal[
    "image", "image_pool", "average", "pointwise", "pyramid", "convolve", "mean", "gate", "fuse", "inner", "stages",
    "logits", "classes", "vector",
]  # fmt: skip
KINDS: dict[Kind, int] = {
    "image": 0, "image_pool": 1, "average": 2, "pointwise": 3, "pyramid": 4, "convolve": 5, "mean": 6, "gate": 7, "fuse": 8,
    "inner": 9, "stages": 10, "logits": 11, "classes": 12, "vector": 13,
}  # fmt: skip


class CComposite(ctypes.Structure):
    """One axis of a stage that enlarges, for the three shifts of its convolution."""

    _fields_ = (("taps", ctypes.c_int32), ("first", ctypes.c_void_p), ("weight", ctypes.c_void_p))


class CPlanStage(ctypes.Structure):
    """A stage of a pyramid pooling: 0 plain, 1 enlarging, 2 reducing."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("rows", CComposite),
        ("columns", CComposite),
        ("rows_in", CBand),
        ("columns_in", CBand),
        ("rows_out", CBand),
        ("columns_out", CBand),
        ("inner", ctypes.c_int64),
    )


class COp(ctypes.Structure):
    """An operation as passed to the kernels."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "n", "h", "w", "oh", "ow", "in_blocks", "out_blocks")),
        *(
            (name, ctypes.c_int32)
            for name in ("out_first", "count", "res_blocks", "res_first", "stride", "branches", "classes")
        ),
        *((name, ctypes.c_int64) for name in ("input", "output", "residual", "other")),
        *((name, ctypes.c_void_p) for name in ("weight", "scale", "shift", "slope", "table", "extra", "extra2")),
    )


@dataclass(eq=False)
class Map:
    """An activation: blocks, each a vector of lanes, at a size. ``lanes`` gives the position of each channel."""

    blocks: int
    height: int
    width: int
    lanes: npt.NDArray[np.int64]
    offset: int = -1


@dataclass
class Operation:
    """An operation and the maps that its fields refer to."""

    kind: Kind
    c: COp
    reads: list[tuple[str, Map]]
    writes: list[tuple[str, Map]]


@dataclass
class Plan:
    """Operations ready to run, created by ``networks.build_plan``."""

    ops: ctypes.Array[Any]
    kinds: tuple[Kind, ...]
    arena_floats: int
    scratch_vectors: int
    answer_shape: tuple[int, ...]
    answer_dtype: torch.dtype
    kept: list[Any] = field(repr=False)
    """Objects that the operations point to."""
    arenas: list[Tensor] = field(repr=False)
    """Memory of finished calls, for the next ones; shared by all plans of the network."""

    def __call__(self, image: Tensor, times: npt.NDArray[np.float64] | None = None) -> Tensor:
        """The output for an image (N, 3, H, W) of the plan's size, float32 on the CPU, any strides.

        Args:
            image: the network's input.
            times: filled with the seconds of every operation.
        """
        threads = torch.get_num_threads()
        needed = self.arena_floats + threads * self.scratch_vectors * vector_lanes()
        try:
            arena = self.arenas.pop()
        except IndexError:
            arena = torch.empty(0, dtype=torch.float32, device="cpu")
        if arena.numel() < needed + _ALIGNED:
            arena = _new_arena(needed + _ALIGNED)
        start = -(arena.data_ptr() // 4) % _ALIGNED
        base = arena.data_ptr() + 4 * start
        answer = torch.empty(self.answer_shape, dtype=self.answer_dtype, device="cpu")
        strides = (ctypes.c_int64 * 4)(*image.stride())
        kernels().espnetv2_plan(
            self.ops,
            len(self.ops),
            ctypes.c_void_p(base),
            ctypes.c_void_p(image.data_ptr()),
            strides,
            ctypes.c_void_p(answer.data_ptr()),
            ctypes.c_void_p(base + 4 * self.arena_floats),
            ctypes.c_int64(self.scratch_vectors),
            None if times is None else ctypes.c_void_p(times.ctypes.data),
            threads,
        )
        self.arenas.append(arena)
        return answer


def _new_arena(floats: int) -> Tensor:
    """Memory in large pages if the system has them: with small ones, speed depends on where they happen to be."""
    if sys.platform != "linux":
        return torch.empty(floats, dtype=torch.float32, device="cpu")
    memory = mmap.mmap(-1, 4 * floats, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # An operating system's kernel may be built without them.
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32)


def lay_out(operations: Sequence[Operation], n: int) -> int:
    """Offsets of all maps in floats, first fit; returns the total."""
    last = {id(place): i for i, operation in enumerate(operations) for _, place in (*operation.reads, *operation.writes)}
    taken: list[tuple[int, int, Map]] = []
    total = 0
    for i, operation in enumerate(operations):
        for _, place in operation.writes:
            if place.offset >= 0:
                continue
            size = -(-n * place.blocks * place.height * place.width * vector_lanes() // _ALIGNED) * _ALIGNED
            at = 0
            for start, end, _ in sorted(taken, key=lambda piece: piece[0]):
                if start - at >= size:
                    break
                at = max(at, end)
            place.offset = at
            taken.append((at, at + size, place))
            total = max(total, at + size)
        taken = [piece for piece in taken if last[id(piece[2])] > i]
    return total
