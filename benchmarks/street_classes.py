"""Cityscapes' classes as CamVid's, for the measurements and trainings that use both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

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
