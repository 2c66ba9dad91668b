"""Prediction results and their files: class map, overlay with legend, probabilities. Nothing here needs torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.drawing import blend, percent, with_caption, with_legend
from espnetv2.errors import UserError
from espnetv2.files import atomic_path, create_folder
from espnetv2.info import ModelInfo
from espnetv2.labels import CITYSCAPES, CITYSCAPES_LABEL_IDS
from espnetv2.ownership import check_replaceable, save_jpeg, save_png

JPEG_LONGEST_SIDE = 65_500


# Equal only to itself: arrays cannot be compared as fields.
@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """A class for every pixel of the source.

    Attributes:
        source: name of the input.
        stem: file name of the outputs, without suffix.
        picture: the source, 8-bit RGB.
        class_map: index of each pixel's class, uint8 (uint16 beyond 256 classes), (H, W) as the source.
        info: classes and colours.
        frame: number within a video, else None.
        fps: frames per second of that video; None for a camera, whose frames come as fast as they are predicted.
        seconds: time of the frame after the first one.
    """

    source: str
    stem: str
    picture: Image.Image
    class_map: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    info: ModelInfo
    frame: int | None = None
    fps: float | None = None
    seconds: float | None = None

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of pixels (0 to 1) of each class that occurs, the largest first."""
        counts = np.bincount(self.class_map.ravel(), minlength=len(self.info.classes))
        order = np.argsort(-counts, kind="stable")
        return {self.info.classes[index]: float(counts[index] / self.class_map.size) for index in order if counts[index]}

    def class_image(self) -> Image.Image:
        """The class map as an image: indexed with the data set's palette, or 16-bit grey beyond 256 classes."""
        if self.class_map.dtype != np.uint8:
            return Image.fromarray(self.class_map)
        picture = Image.fromarray(self.class_map, mode="P")
        picture.putpalette([value for colour in self.info.palette for value in colour])
        return picture

    def label_ids(self) -> Image.Image:
        """The class map as the Cityscapes evaluation server expects it: 8-bit grey, label ids.

        Raises:
            UserError: the classes are not those of Cityscapes.
        """
        if self.info.classes != CITYSCAPES.classes:
            raise UserError(f"{self.info.name} does not predict the Cityscapes classes, for which label ids are defined")
        return Image.fromarray(np.array(CITYSCAPES_LABEL_IDS, np.uint8)[self.class_map])

    def overlay(self, *, all_classes: bool = False) -> Image.Image:
        """The image blended with the class colours, and a legend below.

        Args:
            all_classes: list every class in the legend, not only those that occur, so that all overlays of a video have
                the same size.
        """
        colours = np.array(self.info.palette, np.uint8)
        mixed = blend(self.picture, colours, self.class_map)
        shares = dict.fromkeys(self.info.classes, 0.0) | self.shares if all_classes else self.shares
        palette = dict(zip(self.info.classes, self.info.palette, strict=True))
        entries = [(name if all_classes else f"{name} {percent(share)}", palette[name]) for name, share in shares.items()]
        return with_legend(mixed, entries)

    def outputs(self, folder: str | Path) -> list[Path]:
        """The paths that ``save`` writes."""
        stem = self.stem if self.frame is None else f"{self.stem}_{self.frame:06d}"
        return [Path(folder) / f"{stem}.png", Path(folder) / f"{stem}_overlay.jpg"]

    def save(self, folder: str | Path, *, label_ids: bool = False) -> list[Path]:
        """Write ``<stem>.png`` (class map at the source's size) and ``<stem>_overlay.jpg``; returns their paths.

        Args:
            folder: created if necessary.
            label_ids: write Cityscapes label ids instead of the indexed class map.

        Raises:
            UserError: ``label_ids`` without the Cityscapes classes; the folder cannot be created; or the source or a file that
                is not a result of this program has that name.
        """
        classes, overlay = self.outputs(folder)
        _spare(self.source, (classes, overlay))
        image = self.label_ids() if label_ids else self.class_image()
        drawn = self.overlay()
        drawn.thumbnail((JPEG_LONGEST_SIDE, JPEG_LONGEST_SIDE))
        create_folder(folder)
        # Both are complete before either appears.
        with atomic_path(classes) as classes_file, atomic_path(overlay) as overlay_file:
            save_png(image, classes_file)
            save_jpeg(drawn, overlay_file)
        return [classes, overlay]

    def summary(self) -> str:
        """One readable line: the classes that occur and their shares."""
        return ", ".join(f"{name} {percent(share)}" for name, share in self.shares.items())

    def to_dict(self) -> dict[str, Any]:
        """For JSON: source, size and the share of every class that occurs."""
        found = {"source": self.source, "width": self.picture.width, "height": self.picture.height, "classes": self.shares}
        return found if self.frame is None else found | {"frame": self.frame}


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """The most probable classes of an image.

    Attributes:
        source: name of the input.
        stem: file name of the outputs, without suffix.
        picture: the source, 8-bit RGB.
        top: (class index, probability), the most probable first. A file that outputs only the class gives one entry, with
            a probability of NaN.
        info: class names.
        frame: number within a video, else None.
        fps: frames per second of that video; None for a camera, whose frames come as fast as they are predicted.
        seconds: time of the frame after the first one.
    """

    source: str
    stem: str
    picture: Image.Image
    top: tuple[tuple[int, float], ...]
    info: ModelInfo
    frame: int | None = None
    fps: float | None = None
    seconds: float | None = None

    @property
    def best(self) -> tuple[str, float]:
        """Name and probability of the most probable class."""
        index, probability = self.top[0]
        return self.info.classes[index], probability

    def overlay(self) -> Image.Image:
        """The image with the most probable class written into it."""
        return with_caption(self.picture, self._named(*self.top[0]))

    def outputs(self, folder: str | Path) -> list[Path]:
        """The path that ``save`` writes."""
        stem = self.stem if self.frame is None else f"{self.stem}_{self.frame:06d}"
        return [Path(folder) / f"{stem}.json"]

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``<stem>.json``: the most probable classes and their probabilities; returns its path.

        Raises:
            UserError: the folder cannot be created, or the source or a file that is not a result of this program has that name.
        """
        (target,) = self.outputs(folder)
        _spare(self.source, (target,))
        create_folder(folder)
        with atomic_path(target) as path:
            path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return [target]

    def summary(self) -> str:
        """One readable line: the most probable classes and their probabilities."""
        return ", ".join(self._named(index, probability) for index, probability in self.top)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: source, size and the most probable classes; an unknown probability is null."""
        top = [
            {
                "class": self.info.classes[index],
                "index": index,
                "probability": None if math.isnan(probability) else probability,
            }
            for index, probability in self.top
        ]
        found = {"source": self.source, "width": self.picture.width, "height": self.picture.height, "top": top}
        return found if self.frame is None else found | {"frame": self.frame}

    def _named(self, index: int, probability: float) -> str:
        name = self.info.classes[index]
        return name if math.isnan(probability) else f"{name} {probability:.1%}"


Result = SegmentationResult | ClassificationResult


def _spare(source: str, targets: Iterable[Path]) -> None:
    for target in targets:
        if target.exists() and Path(source).exists() and target.samefile(source):
            raise UserError(f"{target} is one of the sources and would be overwritten: choose another folder")
        check_replaceable(target)
