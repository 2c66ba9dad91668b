"""Batching, and conversion of images to tensors. All augmentation follows from the seed and the image's key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from espnetv2.data.dataset import LabelledData, SegmentationData
from espnetv2.errors import UserError
from espnetv2.preprocessing import Preprocessing
from espnetv2.training.augmentation import vary_for_classification, vary_for_segmentation
from espnetv2.training.recipe import Recipe
from espnetv2.training.workers import context, outlast_signals, worker_count


@dataclass(frozen=True)
class Key:
    """An image in a run: the epoch, the pass within it, the image's index, and the number of its copy if it is repeated."""

    epoch: int
    pass_: int
    index: int
    copy: int = 0


@dataclass(frozen=True)
class Share:
    """The rank of this process among several."""

    rank: int = 0
    world: int = 1


class EpochBatches(Sampler[list[Key]]):
    """The batches of an epoch for one process, from any step on; see ``start``.

    The images of an optimizer step do not depend on the number of processes and accumulated batches that share them.

    Args:
        count: number of images in the data set.
        recipe: batch size, passes, seed, accumulation.
        share: which process.
    """

    def __init__(self, count: int, recipe: Recipe, share: Share) -> None:
        self._count = count
        self._recipe = recipe
        self._share = share
        self._epoch = self._first_step = 0

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Set the epoch, and how many of its steps are done already."""
        self._epoch, self._first_step = epoch, first_step

    def __len__(self) -> int:
        return (steps_per_epoch(self._count, self._recipe) - self._first_step) * self._recipe.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        recipe, per_pass = self._recipe, steps_per_pass(self._count, self._recipe)
        parts = recipe.accumulate * self._share.world
        shuffled = lru_cache(maxsize=1)(self._shuffled)
        for step in range(self._first_step, steps_per_epoch(self._count, recipe)):
            pass_, place = divmod(step, per_pass)
            order = shuffled(self._epoch, pass_)
            # A data set smaller than a batch is repeated.
            positions = np.arange(place * recipe.batch_size, (place + 1) * recipe.batch_size)
            pieces = np.array_split(positions, parts)
            for round_ in range(recipe.accumulate):
                piece = pieces[round_ * self._share.world + self._share.rank]
                copies, places = np.divmod(piece, self._count)
                yield [Key(self._epoch, pass_, int(order[at]), int(copy)) for copy, at in zip(copies, places, strict=True)]

    def _shuffled(self, epoch: int, pass_: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self._recipe.seed, epoch, pass_]).permutation(self._count)


def steps_per_pass(count: int, recipe: Recipe) -> int:
    """Optimizer steps in one pass over the data; an incomplete last batch is dropped."""
    return max(1, count // recipe.batch_size)


def steps_per_epoch(count: int, recipe: Recipe) -> int:
    """Optimizer steps in an epoch."""
    return steps_per_pass(count, recipe) * len(recipe.pass_scales)


Sample = tuple[Tensor, Tensor] | UserError
Batch = tuple[Tensor, Tensor] | UserError
ValidationBatch = tuple[Tensor, list[Tensor]] | UserError


class TrainingSet(Dataset[Sample]):
    """Augmented training images by key: input (3, H, W) and class indices (H, W) or (), or the error that occurred.

    Indices (H, W) are 255 for unlabelled pixels and ``OUTSIDE`` beyond the image's edge.
    """

    def __init__(self, data: LabelledData, recipe: Recipe) -> None:
        self._data = data
        self._recipe = recipe
        self._sizes = recipe.training_sizes
        height, width = recipe.size
        self._stretched = [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in recipe.pass_scales]
        self._preprocessing = recipe.preprocessing()

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, key: Key) -> Sample:
        rng = np.random.default_rng([self._recipe.seed, key.epoch, key.pass_, key.index, key.copy])
        size, options = self._sizes[key.pass_], self._recipe.augmentation
        try:
            if isinstance(self._data, SegmentationData):
                whole = self._data.pairs[key.index][0].picture()
                mask, stretched = self._data.mask(key.index, whole.size), self._stretched[key.pass_]
                picture = self._preprocessing.shrink(whole)
                image, labels = vary_for_segmentation(picture, mask, size, options, rng, stretched=stretched)
                target = torch.from_numpy(labels)
            else:
                blob, label = self._data.items[key.index]
                image = vary_for_classification(blob.picture(), size, options, rng)
                target = torch.tensor(label)
        except UserError as error:
            # Returned and not raised: a worker process would wrap an exception in its traceback.
            return error
        return torch.from_numpy(self._preprocessing.normalise(np.asarray(image))), target


class ValidationSet(Dataset[Sample]):
    """Images preprocessed as for prediction, with labels at their original size."""

    def __init__(self, data: LabelledData, preprocessing: Preprocessing, share: Share) -> None:
        self._data = data
        self._preprocessing = preprocessing
        self._indices = range(share.rank, len(data), share.world)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Sample:
        index = self._indices[place]
        try:
            if isinstance(self._data, SegmentationData):
                image = self._data.pairs[index][0].picture()
                target = torch.from_numpy(self._data.mask(index, image.size))
            else:
                blob, label = self._data.items[index]
                image, target = blob.picture(), torch.tensor(label)
        except UserError as error:
            return error
        return torch.from_numpy(self._preprocessing(image)), target


def training_loader(data: LabelledData, recipe: Recipe, batches: EpochBatches, *, pin: bool) -> DataLoader[Sample]:
    """Loader of the remaining batches of ``batches``; its processes persist across epochs."""
    return DataLoader(
        TrainingSet(data, recipe),
        batch_sampler=batches,
        num_workers=worker_count(recipe),
        collate_fn=_stack,
        pin_memory=pin,
        multiprocessing_context=context(recipe),
        persistent_workers=worker_count(recipe) > 0,
        worker_init_fn=outlast_signals(recipe),
    )


def validation_loader(data: LabelledData, recipe: Recipe, share: Share, *, pin: bool) -> DataLoader[Sample]:
    """Loader of this process's share of the validation images; labels keep their original sizes."""
    return DataLoader(
        ValidationSet(data, recipe.preprocessing(), share),
        batch_size=max(1, min(recipe.batch_size // (recipe.accumulate * share.world), 16)),
        num_workers=worker_count(recipe),
        collate_fn=_stack_images,
        pin_memory=pin,
        multiprocessing_context=context(recipe),
        persistent_workers=worker_count(recipe) > 0,
        worker_init_fn=outlast_signals(recipe),
    )


def _stack(samples: Sequence[Sample]) -> Batch:
    batch = _stack_images(samples)
    return batch if isinstance(batch, UserError) else (batch[0], torch.stack(batch[1]))


def _stack_images(samples: Sequence[Sample]) -> ValidationBatch:
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    good = [sample for sample in samples if not isinstance(sample, UserError)]
    return torch.stack([image for image, _ in good]), [target for _, target in good]
