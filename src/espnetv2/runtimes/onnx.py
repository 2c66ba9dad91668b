"""ONNX files, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espnetv2.errors import UserError, first_line
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.private import import_onnxruntime
from espnetv2.runtimes.runtime import Array

ERRORS_ONLY = 3


class OnnxFile:
    """A network in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or not an ONNX file ({first_line(error)}): export it again") from error
        self.description = read_description(self._session.get_modelmeta().custom_metadata_map.get(KEY), path)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Array) -> Array:
        """One batch."""
        return np.asarray(self._session.run(None, {self._input: images})[0])


def open_file(path: Path, threads: int | None) -> OnnxFile:
    """The file, ready to run."""
    return OnnxFile(path, threads)
