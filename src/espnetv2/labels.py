"""Class names and colours of the data sets that have published weights."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

Colour = tuple[int, int, int]
IGNORE = 255
"""Label of a pixel without a class."""


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, in the order of the network's outputs, and the colour of each."""

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]


CITYSCAPES = Labels(
    classes=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain"),
        *("sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    palette=(
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30)),
        *((220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70)),
        *((0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
)
# The label ids expected by the Cityscapes evaluation server, in the order of the classes above.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

CAMVID = Labels(
    classes=(*("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),),
    palette=(
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128)),
        *((64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    ),
)

# ImageNet's image folders are named by WordNet ids; these are the ten in Imagenette.
IMAGENETTE_NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}

_VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def voc_palette(count: int) -> tuple[Colour, ...]:
    """The first ``count`` colours of PASCAL VOC, which spreads the bits of the class index over the three channels."""
    return tuple((_spread_bits(index), _spread_bits(index >> 1), _spread_bits(index >> 2)) for index in range(count))


def _spread_bits(index: int) -> int:
    return sum(((index >> (3 * bit)) & 1) << (7 - bit) for bit in range(3))


VOC = Labels(classes=_VOC_CLASSES, palette=voc_palette(len(_VOC_CLASSES)))


def distinct_palette(count: int) -> tuple[Colour, ...]:
    """``count`` colours for classes without colours of their own: hues a golden angle apart, alternating in brightness."""
    colours = (colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.75, (0.95, 0.7)[index % 2]) for index in range(count))
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)


def generic_labels(count: int) -> Labels:
    """Names and colours for ``count`` unknown classes."""
    return Labels(tuple(f"class {index}" for index in range(count)), distinct_palette(count))


def imagenet_labels() -> Labels:
    """The 1000 ImageNet classes, from the metadata of torchvision's weights."""
    from torchvision.models.mobilenetv2 import MobileNet_V2_Weights

    names: list[str] = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    return Labels(tuple(names), ())


def dataset_labels(dataset: str) -> Labels:
    """Labels of a data set in the catalogue: ``cityscapes``, ``voc`` or ``imagenet1k``."""
    return {"cityscapes": lambda: CITYSCAPES, "voc": lambda: VOC, "imagenet1k": imagenet_labels}[dataset]()
