"""Core ML packages, in Core ML."""

from __future__ import annotations

import platform
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from espnetv2.errors import UserError
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array


class CoreMlPackage:
    """A network in Core ML, on the CPU."""

    def __init__(self, path: Path) -> None:
        if platform.system() != "Darwin":
            raise UserError(f"{path}: Core ML runs on macOS only: export the network to another format, such as onnx")
        coremltools: Any = import_module("coremltools")
        try:
            with quiet():
                self._model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or not a Core ML package ({type(error).__name__}): export it again") from error
        self.description = read_description(self._model.user_defined_metadata.get(KEY), path)

    def __call__(self, images: Array) -> Array:
        """A batch of one."""
        return np.asarray(self._model.predict({"image": images})[self.description.output])


def open_file(path: Path, threads: int | None) -> CoreMlPackage:
    """The package, ready to run."""
    del threads
    return CoreMlPackage(path)
