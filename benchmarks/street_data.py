"""What the measurements and trainings on CamVid and Cityscapes share."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from espnetv2.data.dataset import Blob, SegmentationData
from espnetv2.data.layouts import open_dataset

UNLABELLED = 255
CAMVID_CLASS = {
    "road": "road",
    "sidewalk": "pavement",
    "building": "building",
    "wall": "building",
    "fence": "fence",
    "pole": "pole",
    "traffic light": "sign",
    "traffic sign": "sign",
    "vegetation": "tree",
    "terrain": "tree",
    "sky": "sky",
    "person": "pedestrian",
    "rider": "bicyclist",
    "car": "car",
    "truck": "car",
    "bus": "car",
    "train": "car",
    "motorcycle": "bicyclist",
    "bicycle": "bicyclist",
}


def to_camvid(cityscapes: Sequence[str], camvid: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The index of CamVid's class for every value of a Cityscapes mask (256 values; 255 for none)."""
    table = np.full(256, UNLABELLED, np.uint8)
    table[: len(cityscapes)] = [camvid.index(CAMVID_CLASS[name]) for name in cityscapes]
    return table


def opened(layout: str, folder: Path, split: str) -> SegmentationData:
    """A split of CamVid or Cityscapes."""
    data = open_dataset(layout, folder, split)
    assert isinstance(data, SegmentationData)
    return data


def data_and_new_folder(description: str | None) -> tuple[Path, Path]:
    """The arguments of a script that rearranges a data set: its folder, and one that does not exist yet."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    check_new(options.out)
    return options.data, options.out


def check_new(out: Path) -> None:
    """End the program if the folder exists: what was in it before would be trained on, too."""
    if out.exists():
        sys.exit(f"{out} exists: give a new folder")


def counterpart(path: Path, root: Path, out: Path) -> Path:
    """Where a file of the folder ``root`` belongs in ``out``, whose folder for it is made."""
    target = out / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def copy_pair(pair: tuple[Blob, Blob], out: Path, split: str, ending: str = "") -> None:
    """Copy an image of CamVid and its mask into a split of a folder of the same layout, with an ending to their names."""
    for source, folder in zip(pair, (split, f"{split}annot"), strict=True):
        (out / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(source.path, out / folder / f"{source.path.stem}{ending}{source.path.suffix}")
