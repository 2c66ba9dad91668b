"""Evaluate a network on a split, on one device or on several with the same result."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from espnetv2.cores import usable_cores
from espnetv2.data.dataset import Blob, LabelledData, SegmentationData
from espnetv2.errors import UserError
from espnetv2.inference.options import PredictorOptions
from espnetv2.inference.sources import Item, Stream
from espnetv2.info import ModelInfo
from espnetv2.metrics import ClassificationMetrics, Metrics, SegmentationMetrics
from espnetv2.runtimes.runtime import is_exported

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from espnetv2.inference.predictor import Predictor

OnImage = Callable[[], None]
IMAGENET_CLASSES = 1000
_POLL_S = 0.2
_SYNSET = re.compile(r"n\d{8}", re.ASCII)


def check_classes(info: ModelInfo, data: LabelledData) -> None:
    """Check that a network and a data set have the same classes.

    Raises:
        UserError: another task, another number of classes, or other names.
    """
    task = "segmentation" if isinstance(data, SegmentationData) else "classification"
    if info.task != task:
        raise UserError(f"{info.name} is for {info.task}, but the data set is for {task}: choose another model")
    theirs, ours = data.labels.classes, info.classes
    if len(theirs) != len(ours):
        raise UserError(
            f"{info.name} has {len(ours)} classes, but the data set has {len(theirs)}: the classes must be the same"
        )
    if "class 0" in (ours[0], theirs[0]) or _are_imagenet(ours, theirs):
        return
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other:
            raise UserError(f'{info.name} calls class {index} "{mine}", but the data set calls it "{other}"')


def _are_imagenet(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """ImageNet's folders are named by number, a network's classes by name; both are in the same order."""
    numbered = [_SYNSET.fullmatch(name) is not None for names in (theirs, ours) for name in names]
    return len(theirs) == IMAGENET_CLASSES and all(numbered[:IMAGENET_CLASSES]) and not any(numbered[IMAGENET_CLASSES:])


def evaluate(predictor: Predictor, data: LabelledData, on_image: OnImage = lambda: None) -> Metrics:
    """Compare the predictions for a split with its labels.

    Predictions are those of ``predict``, at the label's own resolution.

    Raises:
        UserError: the classes differ, a file cannot be decoded, or a mask has another size than its image.
    """
    check_classes(predictor.info, data)
    return _evaluate_part(predictor, data, range(len(data)), on_image)


def evaluate_on_devices(
    options: PredictorOptions, data: LabelledData, devices: int, on_image: OnImage = lambda: None
) -> Metrics:
    """Like ``evaluate``, in ``devices`` processes, each with every ``devices``-th image.

    On a CPU, on which exported files always run, a device is a share of the cores.

    Raises:
        UserError: for the reasons of ``evaluate``; too many devices, or a specific one; or a process was killed.
    """
    kind = "cpu" if is_exported(options.model) else _kind(options.device)
    check_classes(options.info(), data)
    there = _device_count(kind)
    if devices > there:
        raise UserError(f"devices {devices}: this machine has {there} ({kind}): choose at most that many")
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.Value("l", 0), context.Event())
    jobs = [_job(options, kind, index, max(1, there // devices)) for index in range(devices)]
    with ProcessPoolExecutor(devices, context, _start_process, (shared,)) as pool:
        futures = [pool.submit(_evaluate_in_process, job, data, index, devices) for index, job in enumerate(jobs)]
        seen, waiting, failed = 0, True, None
        try:
            while waiting and failed is None:
                done, left = wait(futures, _POLL_S, FIRST_EXCEPTION)
                waiting = bool(left)
                seen = _report(shared, seen, on_image)
                failed = next((future for future in done if future.exception() is not None), None)
        finally:
            # After a failure or an interruption, leaving the pool would wait for the others to finish.
            shared.stop.set()
        try:
            total, *parts = [future.result() for future in (futures if failed is None else [failed])]
        except BrokenProcessPool as error:
            raise UserError(
                f"devices {devices}: one of the processes was killed, perhaps for lack of memory: choose fewer"
            ) from error
    for part in parts:
        total.merge(part)
    return total


class _Shared(NamedTuple):
    """State shared by the processes."""

    seen: Synchronized[int]
    """Images done."""
    stop: Event
    """Set at the end, so that none continues after a failure or an interruption."""


def _kind(device: str) -> str:
    from espnetv2.device import choose_device

    if ":" in device:
        raise UserError(f"device {device} is a single device: leave out its number, or devices")
    return choose_device(device).type


def _device_count(kind: str) -> int:
    if kind == "cuda":
        import torch

        return torch.cuda.device_count()
    return usable_cores() if kind == "cpu" else 1


def _job(options: PredictorOptions, kind: str, index: int, threads: int) -> PredictorOptions:
    if kind != "cpu":
        return replace(options, device=f"{kind}:{index}" if kind == "cuda" else kind)
    return replace(options, device=kind, threads=threads)


def labelled_outputs(
    predictor: Predictor, data: SegmentationData, indices: Sequence[int]
) -> Iterator[tuple[npt.NDArray[np.uint8], Any]]:
    """Mask (H, W) and network output of the images with these indices.

    Raises:
        UserError: a file cannot be decoded, or a mask has another size than its image.
    """
    outputs = predictor.outputs(_stream([data.pairs[index][0] for index in indices]))
    for index, (_, picture, output) in zip(indices, outputs, strict=True):
        yield data.mask(index, picture.size), output


def _evaluate_part(predictor: Predictor, data: LabelledData, part: range, on_image: OnImage) -> Metrics:
    if isinstance(data, SegmentationData):
        pixels = SegmentationMetrics(data.labels.classes)
        for labels, logits in labelled_outputs(predictor, data, part):
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


_shared: _Shared | None = None


def _start_process(shared: _Shared) -> None:
    global _shared
    _shared = shared


def _evaluate_in_process(options: PredictorOptions, data: LabelledData, index: int, devices: int) -> Metrics:
    def count() -> None:
        if _shared is None:
            return
        with _shared.seen.get_lock():
            _shared.seen.value += 1
        if _shared.stop.is_set():
            raise UserError("the evaluation has ended")

    return _evaluate_part(options.make(), data, range(index, len(data), devices), count)


def _report(shared: _Shared, seen: int, on_image: OnImage) -> int:
    now = shared.seen.value
    for _ in range(now - seen):
        on_image()
    return now
