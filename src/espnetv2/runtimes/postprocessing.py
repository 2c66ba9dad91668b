"""From a runtime's output to predictions, without torch: the same results as ``espnetv2.postprocessing``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ClassMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
ROWS = 64


def class_map(logits: npt.NDArray[Any], classes: int, size: tuple[int, int]) -> ClassMap:
    """The most probable class of every pixel of the source; see ``espnetv2.postprocessing.class_map``.

    Args:
        logits: (outputs, h, w). Outputs from ``classes`` on are not classes and are ignored.
        classes: number of classes.
        size: height and width of the source.

    Returns:
        class indices (H, W), uint8, or uint16 beyond 256 classes.
    """
    logits = logits[:classes].astype(np.float32, copy=False)
    top, bottom, down = _positions(logits.shape[1], size[0])
    left, right, across = _positions(logits.shape[2], size[1])
    out = np.zeros(size, np.uint8 if classes <= 256 else np.uint16)
    for first in range(0, size[0], ROWS):
        band = slice(first, first + ROWS)
        rows = _between(logits[:, top[band]], logits[:, bottom[band]], down[band, None])
        best = _between(rows[0][:, left], rows[0][:, right], across)
        found = out[band]
        for index in range(1, classes):
            values = _between(rows[index][:, left], rows[index][:, right], across)
            better = values > best
            found[better] = index
            np.maximum(best, values, out=best)
    return out


def resized_classes(found: npt.NDArray[Any], size: tuple[int, int]) -> ClassMap:
    """A class map (h, w) at the source's size, by nearest neighbour."""
    rows = np.minimum(((np.arange(size[0]) + 0.5) * found.shape[0] / size[0]).astype(np.int64), found.shape[0] - 1)
    columns = np.minimum(((np.arange(size[1]) + 0.5) * found.shape[1] / size[1]).astype(np.int64), found.shape[1] - 1)
    out: ClassMap = found[rows[:, None], columns].astype(np.uint8 if found.dtype == np.uint8 else np.uint16)
    return out


def top_classes(logits: npt.NDArray[Any], classes: int, count: int) -> tuple[tuple[int, float], ...]:
    """The ``count`` most probable of ``classes`` classes for one image's logits (outputs,): (index, probability)."""
    values = logits[:classes].astype(np.float64)
    weights = np.exp(values - values.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")[: min(count, classes)]
    return tuple((int(index), float(probabilities[index])) for index in order)


def _positions(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """For every target position the two source positions around it, and the weight of the second."""
    centres = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = centres.astype(np.int64)
    return first, np.minimum(first + 1, source - 1), (centres - first).astype(np.float32)


def _between(first: Floats, second: Floats, weight: Floats) -> Floats:
    return first + (second - first) * weight
