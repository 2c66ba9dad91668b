"""NCNN folders, in NCNN."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from espnetv2.errors import UserError
from espnetv2.runtimes.description import read_description
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array

STRUCTURE = "model.param"
PARAMETERS = "model.bin"
DESCRIPTION = "espnetv2.json"


class NcnnFolder:
    """A network in NCNN, on the CPU, in float32."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self._ncnn: Any = import_module("ncnn")
        description, structure, parameters = path / DESCRIPTION, path / STRUCTURE, path / PARAMETERS
        self.description = read_description(_text(description), path)
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute = False
        # By default it would round values to 16 bits wherever that is faster on the processor.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if threads is not None:
            options.num_threads = threads
        with quiet():
            # A missing file, too, returns a number other than 0.
            broken = self._net.load_param(str(structure)) != 0 or self._net.load_model(str(parameters)) != 0
        names = (self._net.input_names(), self._net.output_names())
        if broken or not all(names):
            raise UserError(f"{path} is damaged, or {STRUCTURE} or {PARAMETERS} is missing in it: export it again")
        self._input, self._output = names[0][0], names[1][0]

    def __call__(self, images: Array) -> Array:
        """A batch of one."""
        extractor = self._net.create_extractor()
        # A matrix only borrows the array's memory.
        image = np.ascontiguousarray(images[0], np.float32)
        extractor.input(self._input, self._ncnn.Mat(image))
        found = extractor.extract(self._output)[1]
        return np.array(found)[None]


def open_file(path: Path, threads: int | None) -> NcnnFolder:
    """The folder, ready to run."""
    return NcnnFolder(path, threads)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
