"""``.pte`` files, in ExecuTorch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from espnetv2.errors import UserError
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array


class ExecuTorchFile:
    """A program in ExecuTorch, on the CPU. It chooses the number of threads itself."""

    def __init__(self, path: Path) -> None:
        with quiet():
            runtime: Any = import_module("executorch.runtime").Runtime.get()
        try:
            with quiet():
                program = runtime.load_program(path)
                text = program.load_method(KEY).execute([])[0] if KEY in program.method_names else None
                self._forward = program.load_method("forward")
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or not an ExecuTorch file ({type(error).__name__}): export it again") from error
        self._lock = Lock()
        self.description = read_description(text, path)

    def __call__(self, images: Array) -> Array:
        """One batch."""
        # torch requires writable memory.
        image = torch.from_numpy(np.require(images, requirements=("C", "W")))
        with self._lock:
            # The output may be in the method's own memory, where the next one goes.
            return np.asarray(self._forward.execute([image])[0]).copy()


def open_file(path: Path, threads: int | None) -> ExecuTorchFile:
    """The file, ready to run."""
    del threads
    return ExecuTorchFile(path)
