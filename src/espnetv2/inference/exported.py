"""Run an exported file. Nothing here needs torch unless the file's runtime does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.errors import UserError, first_line, is_out_of_memory, kind_and_first_line
from espnetv2.inference.engine import ClassMap, Ranking
from espnetv2.preprocessing import check_size
from espnetv2.runtimes.description import LARGEST_SIDE, SMALLEST_DYNAMIC
from espnetv2.runtimes.postprocessing import class_map, resized_classes, top_classes
from espnetv2.runtimes.runtime import open_runtime


class ExportedEngine:
    """An exported file in its own runtime; see ``Predictor`` for the arguments.

    Raises:
        UserError: for the reasons of ``open_runtime``, or the file does not support the device, size or batch size.
    """

    def __init__(
        self, path: Path, device: str, size: tuple[int, int] | None, batch_size: int | None, threads: int | None
    ) -> None:
        if device not in ("auto", "cpu"):
            raise UserError(f"device {device}: {path} is an exported file, whose runtime chooses the device: leave out device")
        self._path = path
        self._runtime = open_runtime(path, threads=threads)
        description = self._runtime.description
        own = description.info.preprocessing
        if not description.dynamic and size not in (None, (own.height, own.width)):
            raise UserError(f"{path} was exported for {own.width}x{own.height} only: leave out size, or export it with dynamic")
        if description.dynamic and size is not None:
            check_size(size, SMALLEST_DYNAMIC, LARGEST_SIDE)
        if not description.dynamic and batch_size not in (None, 1):
            raise UserError(f"{path} takes one image at a time: leave out the batch size, or export it with dynamic")
        self.preprocessing = own.resized(*size) if size else own
        self.info = description.info
        fitted = self.info.model_copy(update={"preprocessing": self.preprocessing})
        self._description = description.model_copy(update={"info": fitted})
        self.batch_size = batch_size or 1

    def prepare(self, picture: Image.Image) -> npt.NDArray[Any]:
        """Image -> (3, H, W) float32, or (H, W, 3) uint8 if the file normalises by itself."""
        return self._description.prepare(picture)

    def run(self, inputs: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Logits or classes of each input.

        Raises:
            UserError: the file cannot be run, or its output does not match its description.
            MemoryError: the runtime has not enough memory.
        """
        images = np.stack(inputs)
        try:
            found = self._runtime(images)
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(first_line(error)) from error
            # Each runtime has exceptions of its own.
            raise UserError(f"{self._path} cannot be run ({kind_and_first_line(error)}): export it again") from error
        if not self._is_described(found, len(images)):
            returned = f"it returned {found.dtype} of shape {found.shape}"
            raise UserError(f"{self._path} does not match its description ({returned}): export it again")
        return list(found)

    def _is_described(self, found: npt.NDArray[Any], count: int) -> bool:
        preprocessing, segments = self.preprocessing, self.info.task == "segmentation"
        pixels = (preprocessing.height, preprocessing.width) if segments else ()
        if self._description.output == "logits":
            return found.shape == (count, self.info.outputs, *pixels) and found.dtype == np.float32
        in_range = found.size > 0 and int(found.min()) >= 0 and int(found.max()) < len(self.info.classes)
        return found.shape == (count, *pixels) and np.issubdtype(found.dtype, np.integer) and in_range

    def class_map(self, output: npt.NDArray[Any], size: tuple[int, int]) -> ClassMap:
        """Class of every pixel at ``size``: from interpolated logits, or from the nearest pixel of a class map."""
        if self._description.output == "classes":
            return resized_classes(output, size)
        return class_map(output, len(self.info.classes), size)

    def ranking(self, output: npt.NDArray[Any], count: int) -> Ranking:
        """The most probable classes; if the file outputs only the class, that class with a probability of NaN."""
        if self._description.output == "classes":
            return ((int(output), math.nan),)
        return top_classes(output, len(self.info.classes), count)
