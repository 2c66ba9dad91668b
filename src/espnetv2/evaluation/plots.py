"""Plots of an evaluation: confusion matrix, one bar per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnetv2.figures import new_figure, save_figure
from espnetv2.metrics import Metrics, SegmentationMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES = 50


def plot_confusion(metrics: Metrics, path: Path) -> None:
    """Confusion matrix as PNG, each row in percent of its label."""
    count = len(metrics.classes)
    side = min(16.0, max(5.0, 2.5 + 0.42 * count))
    figure = new_figure(side, side)
    axes = figure.subplots()
    totals = metrics.counts.sum(1, keepdims=True)
    shares = np.divide(100.0 * metrics.counts, totals, out=np.zeros(metrics.counts.shape), where=totals > 0)
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(image, label="share of the label's pixels or images, %", shrink=0.8)
    if count <= MOST_NAMES:
        # Names literally: matplotlib would read formulae between dollar signs.
        axes.set_xticks(range(count), metrics.classes, rotation=90, parse_math=False)
        axes.set_yticks(range(count), metrics.classes, parse_math=False)
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            colour = "white" if shares[row, column] > 55 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="predicted", ylabel="label")
    save_figure(figure, path)


def plot_per_class(metrics: Metrics, path: Path) -> None:
    """IoU or accuracy of each class as horizontal bars, best first; PNG."""
    report = metrics.report()
    segmentation = isinstance(metrics, SegmentationMetrics)
    values = report["per_class_iou"] if segmentation else report["per_class_accuracy"]
    known = sorted(((value, name) for name, value in values.items() if value is not None), reverse=True)
    missing = [name for name, value in values.items() if value is None]
    figure = new_figure(7.0, min(40.0, 1.5 + 0.27 * max(1, len(known))))
    axes = figure.subplots()
    _bars(axes, [name for _, name in known], [value for value, _ in known])
    title = f"mIoU {report['miou']:.1f} %" if segmentation else f"top-1 {report['top1']:.1f} %"
    absent = f"   (not present: {', '.join(missing)})" if missing else ""
    axes.set(xlim=(0, 108), xlabel="IoU, %" if segmentation else "accuracy, %")
    axes.set_title(title + absent, parse_math=False)
    save_figure(figure, path)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float]) -> None:
    bars = axes.barh(range(len(values)), values, color="#3b7dd8")
    axes.set_yticks(range(len(values)), names, parse_math=False)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
