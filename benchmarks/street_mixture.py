r"""Put CamVid's and Cityscapes' training images into one folder, to train a network for CamVid on both.

    python benchmarks/street_mixture.py --camvid camvid --cityscapes cityscapes256 --out mixture
    espnetv2 train --recipe camvid --data mixture ...

CamVid has 367 training frames of three drives. Cityscapes has thousands from many towns, but small ones here: of each, a part
with CamVid's proportions is taken at a random place, with its classes merged into CamVid's. CamVid's frames are copied so often
that both make up about half. Validation is CamVid's.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from street_classes import to_camvid

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts import open_dataset

CITYSCAPES_SIZE = (512, 256)
PART_WIDTH = 342
QUALITY = 95


def main() -> None:
    """Read the arguments and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", required=True, type=Path)
    parser.add_argument("--cityscapes", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--every", default=1, type=int, help="take every so many images of Cityscapes")
    options = parser.parse_args()
    if options.out.exists():
        sys.exit(f"{options.out} exists: give a new folder")
    camvid, cityscapes = opened("camvid", options.camvid), opened("cityscapes", options.cityscapes)
    indices = range(0, len(cityscapes), options.every)
    for split, copies in (("train", max(1, round(len(indices) / len(camvid)))), ("val", 1)):
        for copy in range(copies):
            copy_split(options.camvid, options.out, split, copy)
    table, rng = to_camvid(cityscapes.labels.classes, camvid.labels.classes), np.random.default_rng(0)
    for index in track(indices, "Cityscapes"):
        left = int(rng.integers(CITYSCAPES_SIZE[0] - PART_WIDTH + 1))
        part = (left, 0, left + PART_WIDTH, CITYSCAPES_SIZE[1])
        picture = cityscapes.pairs[index][0].picture().resize(CITYSCAPES_SIZE, Image.Resampling.BICUBIC).crop(part)
        labels = Image.fromarray(table[cityscapes.mask(index)]).resize(CITYSCAPES_SIZE, Image.Resampling.NEAREST).crop(part)
        stem = Path(cityscapes.pairs[index][0].name).stem
        picture.save(options.out / "train" / f"{stem}.jpg", quality=QUALITY)
        labels.save(options.out / "trainannot" / f"{stem}.png")


def opened(layout: str, folder: Path) -> SegmentationData:
    """The training split."""
    data = open_dataset(layout, folder, "train")
    assert isinstance(data, SegmentationData)
    return data


def copy_split(source: Path, out: Path, split: str, copy: int) -> None:
    """Copy a split of CamVid, with the copy's number in the names."""
    for folder in (split, f"{split}annot"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / folder).iterdir()):
            shutil.copy(path, out / folder / f"{path.stem}_{copy}{path.suffix}")


if __name__ == "__main__":
    main()
