"""``.tflite`` files, in LiteRT."""

from __future__ import annotations

import zipfile
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from espnetv2.errors import UserError
from espnetv2.runtimes.description import read_description
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array

DESCRIPTION = "espnetv2.json"
LONGEST_TEXT = 4 * 2**20


class LiteRtFile:
    """A network in LiteRT, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        litert: Any = import_module("ai_edge_litert.interpreter")
        try:
            with quiet():
                self._interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or not a LiteRT file ({type(error).__name__}): export it again") from error
        self.description = read_description(_text(path), path)
        self._input = self._interpreter.get_input_details()[0]["index"]
        # No other thread may call between input and output.
        self._lock = Lock()
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, images: Array) -> Array:
        """A batch of one."""
        with self._lock:
            self._interpreter.set_tensor(self._input, images)
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self._output))


def open_file(path: Path, threads: int | None) -> LiteRtFile:
    """The file, ready to run."""
    return LiteRtFile(path, threads)


def _text(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(DESCRIPTION) as file:
            # A few bytes of an archive may unpack to any size.
            return file.read(LONGEST_TEXT).decode("utf-8", errors="replace")
    except Exception:
        # A damaged archive can break the reader anywhere; its description is then missing.
        return None
