"""Published or measured accuracy of a network, as stated by its own package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from espnetv2.benchmarking.report import Accuracy, Metric
from espnetv2.models.registry import Task
from espnetv2.weights.catalogue import WeightEntry, catalogue, released

if TYPE_CHECKING:
    from espnetv2.info import ModelInfo


def catalogue_accuracy(model: str, size: tuple[int, int]) -> Accuracy | None:
    """Accuracy of a model's weights in the catalogue for inputs of ``size`` (height, width), or else of its default ones."""
    entries = [entry for entry in catalogue().values() if entry.model == model and _metric(entry.metrics)]
    wanted = f"{size[1]}x{size[0]}"
    entries.sort(key=lambda entry: entry.size != wanted)
    return _entry_accuracy(entries[0]) if entries else None


def info_accuracy(info: ModelInfo) -> Accuracy | None:
    """Accuracy of a network's own weights."""
    if info.name in catalogue():
        return _entry_accuracy(catalogue()[info.name])
    metric = _metric(info.metrics)
    if metric is None or info.dataset is None:
        return None
    return Accuracy(
        metric=metric,
        percent=info.metrics[metric],
        dataset=info.dataset,
        weights=info.name,
        size=f"{info.preprocessing.width}x{info.preprocessing.height}",
        origin="measured when it was trained",
    )


def torchvision_accuracy(model: str, task: Task) -> Accuracy | None:
    """Accuracy of torchvision's own weights, from their metadata."""
    from torchvision import models

    weights = models.get_model_weights(model)["DEFAULT"]
    metric: Metric = "top1" if task == "classification" else "miou"
    key = "acc@1" if metric == "top1" else metric
    for dataset, figures in weights.meta["_metrics"].items():
        if key in figures:
            crop = weights.transforms.keywords.get("crop_size")
            return Accuracy(
                metric=metric,
                percent=figures[key],
                dataset="imagenet1k" if dataset == "ImageNet-1K" else dataset,
                weights=str(weights),
                size=f"{crop}x{crop}" if crop else "any",
                origin="published by torchvision",
            )
    return None


def _entry_accuracy(entry: WeightEntry) -> Accuracy | None:
    metric = _metric(entry.metrics)
    if metric is None:
        return None
    return Accuracy(
        metric=metric,
        percent=entry.metrics[metric],
        dataset=entry.dataset,
        weights=entry.name,
        size=entry.size,
        origin="published by the authors" if entry in released() else "measured by this project",
    )


def _metric(metrics: Mapping[str, float]) -> Metric | None:
    known: tuple[Metric, ...] = ("top1", "miou")
    return next((metric for metric in known if metric in metrics), None)
