"""Evaluate a network on a split, on one device or shared out among several with the same result."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.data.dataset import Blob, LabelledData, SegmentationData
from espnetv2.errors import UserError
from espnetv2.inference.sources import Item, Stream
from espnetv2.info import ModelInfo
from espnetv2.metrics import ClassificationMetrics, Metrics, SegmentationMetrics

if TYPE_CHECKING:
    from espnetv2.inference.predictor import Predictor

OnImage = Callable[[], None]
_POLL_S = 0.2


@dataclass(frozen=True)
class PredictorOptions:
    """What a predictor is made of, so that other processes can make the same one."""

    model: str
    weights: Path | None = None
    device: str = "auto"
    size: tuple[int, int] | None = None
    batch_size: int | None = None
    weights_dir: Path | None = None
    accelerate: bool = True
    backend: str = "auto"

    def info(self) -> ModelInfo:
        """What the predictor's weights are.

        Raises:
            UserError: as ``Predictor``.
        """
        return self.make().info

    def make(self) -> Predictor:
        """The predictor; it ranks five classes.

        Raises:
            UserError: as ``Predictor``.
        """
        from espnetv2.inference.predictor import Predictor

        return Predictor(
            self.model,
            weights=self.weights,
            device=self.device,
            size=self.size,
            batch_size=self.batch_size,
            weights_dir=self.weights_dir,
            accelerate=self.accelerate,
            backend=self.backend,
        )


def check_classes(info: ModelInfo, data: LabelledData) -> None:
    """See that a network and a data set speak of the same classes.

    Raises:
        UserError: another task, another number of classes, or other names.
    """
    task = "segmentation" if isinstance(data, SegmentationData) else "classification"
    if info.task != task:
        raise UserError(f"{info.name} is for {info.task}, but the data set is for {task}: name another model")
    theirs, ours = data.labels.classes, info.classes
    if len(theirs) != len(ours):
        raise UserError(f"{info.name} has {len(ours)} classes, but the data set has {len(theirs)}: they must be the same")
    # Folders of ImageNet are called by number, its classes by name; both are in the same order.
    unnamed = ours[0] == "class 0" or theirs[0] == "class 0" or info.dataset == "imagenet1k"
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other and not unnamed:
            raise UserError(f'{info.name} calls class {index} "{mine}", but the data set calls it "{other}"')


def evaluate(predictor: Predictor, data: LabelledData, on_image: OnImage = lambda: None) -> Metrics:
    """Compare predictions with every label of a split.

    A prediction is what ``predict`` gives, made at the label's own resolution.

    Raises:
        UserError: the classes disagree, a file cannot be decoded, or a mask is of another size than its picture.
    """
    check_classes(predictor.info, data)
    return _evaluate_part(predictor, data, range(len(data)), on_image)


def evaluate_on_devices(
    options: PredictorOptions, data: LabelledData, devices: int, on_image: OnImage = lambda: None
) -> Metrics:
    """Like ``evaluate``, in ``devices`` processes, each with every ``devices``-th picture.

    On a CPU a device is a share of the cores.

    Raises:
        UserError: as ``evaluate``; more devices than there are.
    """
    import torch

    from espnetv2.device import choose_device

    check_classes(options.info(), data)

    kind = choose_device(options.device).type
    there = torch.cuda.device_count() if kind == "cuda" else os.cpu_count() or 1 if kind == "cpu" else 1
    if devices > there:
        raise UserError(f"--devices {devices}: this machine has {there} ({kind})")
    context = multiprocessing.get_context("spawn")
    counter = context.Value("l", 0)
    jobs = [replace(options, device=f"cuda:{index}" if kind == "cuda" else kind) for index in range(devices)]
    with ProcessPoolExecutor(devices, context, _start_process, (counter, devices, kind)) as pool:
        futures = [pool.submit(_evaluate_in_process, job, data, index, devices) for index, job in enumerate(jobs)]
        seen, waiting = 0, True
        while waiting:
            waiting = bool(wait(futures, timeout=_POLL_S).not_done)
            seen = _report(counter, seen, on_image)
        total, *parts = [future.result() for future in futures]
    for part in parts:
        total.merge(part)
    return total


def _evaluate_part(predictor: Predictor, data: LabelledData, part: range, on_image: OnImage) -> Metrics:
    if isinstance(data, SegmentationData):
        pixels = SegmentationMetrics(data.labels.classes)
        outputs = predictor.outputs(_stream([data.pairs[index][0] for index in part]))
        for index, (_, picture, logits) in zip(part, outputs, strict=True):
            labels = data.mask(index, picture.size)
            pixels.update(labels, predictor.class_map(logits, (labels.shape[0], labels.shape[1])))
            on_image()
        return pixels
    pictures = ClassificationMetrics(data.labels.classes)
    outputs = predictor.outputs(_stream([data.items[index][0] for index in part]))
    for index, (_, _, logits) in zip(part, outputs, strict=True):
        pictures.update(data.items[index][1], tuple(best for best, _ in predictor.ranking(logits)))
        on_image()
    return pictures


def _stream(blobs: list[Blob]) -> Stream:
    return Stream((Item(blob.name, blob.name, blob.picture) for blob in blobs), len(blobs), ())


_counter: Synchronized[int] | None = None


def _start_process(counter: Synchronized[int], devices: int, kind: str) -> None:
    global _counter
    _counter = counter
    if kind == "cpu":
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))


def _evaluate_in_process(options: PredictorOptions, data: LabelledData, index: int, devices: int) -> Metrics:
    def count() -> None:
        if _counter is not None:
            with _counter.get_lock():
                _counter.value += 1

    return _evaluate_part(options.make(), data, range(index, len(data), devices), count)


def _report(counter: Synchronized[int], seen: int, on_image: OnImage) -> int:
    now = counter.value
    for _ in range(now - seen):
        on_image()
    return now
