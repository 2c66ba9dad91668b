r"""Repeat the training images of Cityscapes that have rare classes.

    python benchmarks/repeat_rare.py --data cityscapes256 --out repeated
    espnetv2 train --recipe cityscapes_256 --data repeated ...

An image is repeated by the repeat factor of its rarest class, sqrt(t / f) for a class in a share f of all images and at least
1 (Gupta, Dollár and Girshick, "LVIS", 2019, section 4); the fraction is drawn. Validation stays as it is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from rich.progress import track
from street_data import counterpart, data_and_new_folder, opened

from espnetv2.data.dataset import Blob

THRESHOLD = 0.4
"""The share t: classes in fewer of the images are rare."""

PIXELS = 50
"""Pixels of a class that an image has at least, to be one of that class."""


def main() -> None:
    """Read the arguments and write a folder of the same layout."""
    root, out = data_and_new_folder(__doc__)
    train = opened("cityscapes", root, "train")
    classes = len(train.labels.classes)
    masks = (train.mask(index) for index in track(range(len(train)), "reading the masks"))
    has = np.stack([np.bincount(mask.ravel(), minlength=classes)[:classes] >= PIXELS for mask in masks])
    factor = np.sqrt(THRESHOLD / np.maximum(has.mean(axis=0), 1 / len(train))).clip(min=1)
    repeats = np.floor((has * factor).max(axis=1).clip(min=1) + np.random.default_rng(0).random(len(train))).astype(int)
    for pair, count in zip(train.pairs, repeats, strict=True):
        copy(pair, root, out, count)
    for pair in opened("cityscapes", root, "val").pairs:
        copy(pair, root, out, 1)


def copy(pair: tuple[Blob, Blob], root: Path, out: Path, count: int) -> None:
    """Copy an image and its mask, ``count`` times under names of their own."""
    for source in pair:
        target = counterpart(source.path, root, out)
        city, rest = target.name.split("_", 1)
        for name in (target.name, *(f"{city}-{number}_{rest}" for number in range(1, count))):
            shutil.copy(source.path, target.with_name(name))


if __name__ == "__main__":
    main()
