"""Small data sets in the layouts that are supported."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts import open_dataset
from helpers import picture

SHAPE_COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
SHAPE_CLASSES = ("background", "square", "disc")


def make_shapes(root: Path, count: int = 6, size: tuple[int, int] = (48, 32), seed: int = 0) -> Path:
    """A data set of one's own: bright squares and discs on noise, RGB masks, three classes, splits train and val."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 90, (size[1], size[0], 3), np.uint8))
            mask = Image.new("RGB", size)
            for kind in (1, 2):
                x, y = int(rng.integers(0, size[0] - 14)), int(rng.integers(0, size[1] - 14))
                for canvas, colour in ((image, ((230, 220, 90), (90, 200, 240))[kind - 1]), (mask, SHAPE_COLOURS[kind])):
                    draw = ImageDraw.Draw(canvas)
                    (draw.rectangle if kind == 1 else draw.ellipse)((x, y, x + 12, y + 12), fill=colour)
            for folder, picture_ in (("images", image), ("masks", mask)):
                path = root / folder / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture_.save(path)
    colours = "".join(f"  - [{r}, {g}, {b}]\n" for r, g, b in SHAPE_COLOURS)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(SHAPE_CLASSES)}]\npalette:\n{colours}")
    return root


def make_folders(root: Path, count: int = 4, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    """A classification data set with a folder per class, splits train and val."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index, name in enumerate(classes):
            for number in range(count):
                pixels = rng.integers(0, 60, (36, 40, 3)) + 190 * index // max(1, len(classes) - 1)
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def write_mask(path: Path, values: list[list[int]], *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.array(values, np.uint8))
    if palette:
        mask.putpalette(list(range(256)) * 3)
    mask.save(path)


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(2, 2).save(path)


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def open_segmentation(layout: str, root: Path, split: str = "val") -> SegmentationData:
    data = open_dataset(layout, root, split)
    assert isinstance(data, SegmentationData)
    return data
