"""Resizing and pooling as banded matrices, one for each axis, for the kernels.

Bilinear resizing with aligned corners and adaptive average pooling are linear in their input and separable, so each is a
matrix for the rows and one for the columns that depend only on the sizes; those of the gradient are their transposes.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Taps = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""The first input that each output needs, and weights (outputs, taps, 3) for a convolution's three shifts along an axis."""
_Shares = list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]


class CBand(ctypes.Structure):
    """A banded matrix as passed to the kernels; the arrays live in ``Band``."""

    _fields_ = (
        ("outputs", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("first", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )


class CStage(ctypes.Structure):
    """A pyramid stage as passed to the kernels."""

    _fields_ = (
        ("plain", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("rows_in", CBand),
        ("columns_in", CBand),
        ("rows_out", CBand),
        ("columns_out", CBand),
        ("columns_in_turned", CBand),
        ("rows_out_turned", CBand),
        ("columns_out_turned", CBand),
    )


class Matrix(NamedTuple):
    """A sparse matrix: a dense one would grow with the square of an image's side."""

    outputs: int
    inputs: int
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    """Values at the same position add up."""

    def transposed(self) -> Matrix:
        """The transpose."""
        return Matrix(self.inputs, self.outputs, self.columns, self.rows, self.values)


@dataclass(frozen=True)
class Band:
    """A banded matrix: output i is the sum of ``weight[i, t] * input[first[i] + t]``."""

    first: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]

    @classmethod
    def of(cls, matrix: Matrix) -> Band:
        """The band of a matrix, as wide as its widest row requires."""
        there = matrix.values != 0
        rows, columns, values = matrix.rows[there], matrix.columns[there], matrix.values[there]
        first, last = np.full(matrix.outputs, matrix.inputs), np.full(matrix.outputs, -1)
        np.minimum.at(first, rows, columns)
        np.maximum.at(last, rows, columns)
        taps = max(1, int((last - first).max()) + 1)
        first = np.minimum(first, matrix.inputs - taps)
        weight = np.zeros((matrix.outputs, taps), np.float32)
        np.add.at(weight, (rows, columns - first[rows]), values)
        return cls(first.astype(np.int32), weight)

    def for_kernels(self) -> CBand:
        """The same as addresses; valid while this object lives."""
        return CBand(len(self.first), self.weight.shape[1], self.first.ctypes.data, self.weight.ctypes.data)


def bilinear(inputs: int, outputs: int) -> Matrix:
    """Matrix (outputs, inputs) of linear interpolation with aligned corners."""
    low, high, exact = _between(inputs, outputs)
    share = exact.astype(np.float32)
    rows = np.tile(np.arange(outputs), 2)
    return Matrix(outputs, inputs, rows, np.concatenate([low, high]), np.concatenate([1 - share, share]))


def pooling(inputs: int, outputs: int) -> Matrix:
    """Matrix (outputs, inputs) of adaptive average pooling."""
    rows = np.arange(outputs)
    start, end = rows * inputs // outputs, -(-(rows + 1) * inputs // outputs)
    size = end - start
    before = np.repeat(np.cumsum(size) - size, size)
    columns = np.arange(len(before)) - before + np.repeat(start, size)
    return Matrix(outputs, inputs, np.repeat(rows, size), columns, np.repeat(1 / size, size).astype(np.float32))


@functools.lru_cache(maxsize=256)
def bilinear_band(inputs: int, outputs: int, *, transposed: bool = False) -> Band:
    """Band of linear interpolation, or of its transpose."""
    matrix = bilinear(inputs, outputs)
    return Band.of(matrix.transposed() if transposed else matrix)


def enlarged_taps(inputs: int, inner: int) -> Taps:
    """Weights along one axis for "enlarge, read the inner neighbour before, at, after, average back"."""
    rows = np.arange(inputs)
    start, end = rows * inner // inputs, -(-(rows + 1) * inner // inputs)
    averaged = [(start + offset, (start + offset < end) / (end - start)) for offset in range(int((end - start).max()))]
    low, high, share = _between(inputs, inner)
    return _taps(averaged, inner, [(low, 1 - share), (high, share)], inputs)


def reduced_taps(inner: int, outputs: int) -> Taps:
    """Weights along one axis for "read the neighbour before, at, after, enlarge" on a reduced map."""
    low, high, share = _between(inner, outputs)
    itself = np.arange(inner)
    return _taps([(low, 1 - share), (high, share)], inner, [(itself, np.ones(inner))], inner)


def plain_taps(side: int) -> Taps:
    """The same for a convolution at the input's own size."""
    itself = [(np.arange(side), np.ones(side))]
    return _taps(itself, side, itself, side)


def _between(inputs: int, outputs: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For linear interpolation with aligned corners: the inputs below and above, and the share of the latter."""
    step = (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
    place = (np.arange(outputs, dtype=np.float32) * np.float32(step)).astype(np.float64)
    low = np.minimum(place.astype(np.int64), inputs - 1)
    return low, np.minimum(low + 1, inputs - 1), place - low


def _taps(averaged: _Shares, inner: int, read: _Shares, inputs: int) -> Taps:
    """Weights of inputs: outputs average places of the convolution, which reads ``inner`` places, each a mean of inputs."""
    places = np.stack([place for place, share in averaged])
    used = np.stack([share > 0 for _, share in averaged])
    reached = [source[np.clip(places + shift, 0, inner - 1)] for source, _ in read for shift in (-1, 0, 1)]
    first = np.min([np.where(used, source, inputs).min(0) for source in reached], axis=0)
    last = np.max([np.where(used, source, -1).max(0) for source in reached], axis=0)
    taps = int((last - first).max()) + 1
    first = np.minimum(first, inputs - taps)
    weight = np.zeros((len(first), taps, 3))
    for place, share in averaged:
        for shift in range(3):
            at = place + shift - 1
            y = np.flatnonzero((share > 0) & (at >= 0) & (at < inner))
            for source, part in read:
                weight[y, source[at[y]] - first[y], shift] += share[y] * part[at[y]]
    return first.astype(np.int32), weight.astype(np.float32)


@dataclass(frozen=True)
class Stages:
    """The stages of a pyramid pooling at one size, for the kernels."""

    count: int
    array: ctypes.Array[Any]
    bands: tuple[Band, ...]
    """Kept because ``array`` points into them."""


class Scale(NamedTuple):
    """Size at which a stage convolves; one that enlarges does so bilinearly and averages back, one that reduces the reverse."""

    height: int
    width: int
    enlarges: bool


@functools.lru_cache(maxsize=64)
def pyramid_stages(size: tuple[int, int], scales: tuple[Scale | None, ...]) -> Stages:
    """Stages at ``size`` (height, width); None is a plain convolution."""
    bands: list[Band] = []

    def kept(matrix: Matrix) -> CBand:
        bands.append(Band.of(matrix))
        return bands[-1].for_kernels()

    stages = []
    for inner in scales:
        if inner is None:
            stages.append(CStage(plain=1))
            continue
        there, back = (bilinear, pooling) if inner.enlarges else (pooling, bilinear)
        rows_in, columns_in = there(size[0], inner.height), there(size[1], inner.width)
        rows_out, columns_out = back(inner.height, size[0]), back(inner.width, size[1])
        turned = (columns_in.transposed(), rows_out.transposed(), columns_out.transposed())
        maps = (rows_in, columns_in, rows_out, columns_out, *turned)
        stages.append(CStage(0, inner.height, inner.width, *map(kept, maps)))
    return Stages(len(stages), (CStage * len(stages))(*stages), tuple(bands))
