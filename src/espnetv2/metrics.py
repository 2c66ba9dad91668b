"""Metrics from counts over a whole split, shared by evaluation and training. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from espnetv2.labels import IGNORE


@dataclass
class SegmentationMetrics:
    """One confusion matrix over all pixels that have a label.

    Attributes:
        classes: names.
        counts: pixels by (label, prediction), int64.
        images: number of images counted.
    """

    classes: tuple[str, ...]
    counts: npt.NDArray[np.int64] = field(init=False)
    images: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def update(self, labels: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> None:
        """Count an image: class of every pixel, (H, W) both; label 255 is ignored."""
        count = len(self.classes)
        known = labels != IGNORE
        pairs = labels[known].astype(np.int64) * count + predicted[known]
        self.counts += np.bincount(pairs, minlength=count * count).reshape(count, count)
        self.images += 1

    def merge(self, other: Metrics) -> None:
        """Add the counts of another process."""
        if not isinstance(other, SegmentationMetrics):
            raise TypeError("metrics of another task cannot be merged")
        self.counts += other.counts
        self.images += other.images

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class, 0 to 1; NaN for a class neither labelled nor predicted."""
        hits = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - np.diag(self.counts)
        out = np.full(len(hits), np.nan)
        np.divide(hits, union, out=out, where=union > 0)
        return out

    def summary(self) -> dict[str, float]:
        """``miou`` and ``pixel_accuracy`` in percent; 0 if nothing is labelled.

        The mean is over the classes that have an IoU, as in the official Cityscapes evaluation: a class that occurs neither in
        a label nor in a prediction is left out, one that is predicted but never labelled counts as 0.
        """
        iou, total = self.iou(), self.counts.sum()
        defined = iou[~np.isnan(iou)]
        return {
            "miou": 100 * float(defined.mean()) if len(defined) else 0.0,
            "pixel_accuracy": 100 * float(np.trace(self.counts) / total) if total else 0.0,
        }

    def score(self) -> float:
        """The criterion for the best weights: mean IoU, in percent, over the classes that have a label.

        In ``miou``, a single pixel predicted as a class that the split lacks would cost a whole class, however good the rest.
        """
        labelled = self.counts.sum(1) > 0
        return 100 * float(self.iou()[labelled].mean()) if labelled.any() else 0.0

    def report(self) -> dict[str, Any]:
        """Everything, for JSON. ``absent`` names the classes without a labelled pixel; an undefined IoU is None."""
        per_class = {
            name: None if np.isnan(value) else 100 * float(value) for name, value in zip(self.classes, self.iou(), strict=True)
        }
        absent = [name for name, count in zip(self.classes, self.counts.sum(1), strict=True) if not count]
        return {**self.summary(), "per_class_iou": per_class, "absent": absent, "images": self.images}


@dataclass
class ClassificationMetrics:
    """Confusion matrix of the most probable class, and how often the label is among the five most probable ones.

    Attributes:
        classes: names.
        counts: images by (label, prediction), int64.
        among_five: images whose label is among the five most probable classes; None if fewer were ranked.
    """

    classes: tuple[str, ...]
    counts: npt.NDArray[np.int64] = field(init=False)
    among_five: int | None = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.classes), len(self.classes)), np.int64)

    @property
    def images(self) -> int:
        """Number of images counted."""
        return int(self.counts.sum())

    def update(self, label: int, ranking: tuple[int, ...]) -> None:
        """Count an image: its class, and the predicted classes, the most probable first."""
        self.counts[label, ranking[0]] += 1
        if len(ranking) < min(5, len(self.classes)):
            self.among_five = None
        elif self.among_five is not None:
            self.among_five += label in ranking[:5]

    def merge(self, other: Metrics) -> None:
        """Add the counts of another process."""
        if not isinstance(other, ClassificationMetrics):
            raise TypeError("metrics of another task cannot be merged")
        self.counts += other.counts
        if other.among_five is None:
            self.among_five = None
        elif self.among_five is not None:
            self.among_five += other.among_five

    def summary(self) -> dict[str, float]:
        """``top1`` and ``top5`` in percent; the latter is left out if fewer than five classes were ranked."""
        total = max(1, self.images)
        top1 = {"top1": 100 * float(np.trace(self.counts)) / total}
        return top1 if self.among_five is None else top1 | {"top5": 100 * self.among_five / total}

    def score(self) -> float:
        """The criterion for the best weights: ``top1``."""
        return self.summary()["top1"]

    def report(self) -> dict[str, Any]:
        """Everything, for JSON. The accuracy of a class without images is None."""
        totals = self.counts.sum(1)
        per_class = {
            name: 100 * float(self.counts[index, index] / totals[index]) if totals[index] else None
            for index, name in enumerate(self.classes)
        }
        return {**self.summary(), "per_class_accuracy": per_class, "images": self.images}


Metrics = SegmentationMetrics | ClassificationMetrics
