r"""Put CamVid's and Cityscapes' training images into one folder, to train a network for CamVid on both.

    python benchmarks/street_mixture.py --camvid camvid --cityscapes cityscapes256 --out mixture
    espnetv2 train --recipe camvid --data mixture ...

CamVid has 367 training frames of three drives. Cityscapes has thousands from many towns, but small ones here: of each, a part
with CamVid's proportions is taken at a random place, with its classes merged into CamVid's. CamVid's frames are copied so often
that both make up about half. Validation is CamVid's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from street_data import check_new, copy_pair, opened, to_camvid

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
    check_new(options.out)
    camvid, cityscapes = opened("camvid", options.camvid, "train"), opened("cityscapes", options.cityscapes, "train")
    indices = range(0, len(cityscapes), options.every)
    for copy in range(max(1, round(len(indices) / len(camvid)))):
        for pair in camvid.pairs:
            copy_pair(pair, options.out, "train", f"_{copy}")
    for pair in opened("camvid", options.camvid, "val").pairs:
        copy_pair(pair, options.out, "val")
    table, rng = to_camvid(cityscapes.labels.classes, camvid.labels.classes), np.random.default_rng(0)
    for index in track(indices, "Cityscapes"):
        left = int(rng.integers(CITYSCAPES_SIZE[0] - PART_WIDTH + 1))
        part = (left, 0, left + PART_WIDTH, CITYSCAPES_SIZE[1])
        picture = cityscapes.pairs[index][0].picture().resize(CITYSCAPES_SIZE, Image.Resampling.BICUBIC).crop(part)
        labels = Image.fromarray(table[cityscapes.mask(index)]).resize(CITYSCAPES_SIZE, Image.Resampling.NEAREST).crop(part)
        stem = Path(cityscapes.pairs[index][0].name).stem
        picture.save(options.out / "train" / f"{stem}.jpg", quality=QUALITY)
        labels.save(options.out / "trainannot" / f"{stem}.png")


if __name__ == "__main__":
    main()
