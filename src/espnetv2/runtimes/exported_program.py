"""``.pt2`` files, in PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from espnetv2.errors import UserError
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.runtime import Array


class ExportedProgramFile:
    """A program of torch.export, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        extra = {KEY: ""}
        try:
            with _without_pickle():
                program = torch.export.load(path, extra_files=extra)
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or no .pt2 file ({type(error).__name__}): export it anew") from error
        self.description = read_description(extra[KEY], path)
        self._module = program.module()

    @torch.inference_mode()
    def __call__(self, images: Array) -> Array:
        """One batch."""
        # torch wants memory that it could write to.
        out: Array = self._module(torch.from_numpy(np.require(images, requirements="W"))).numpy()
        return out


@contextmanager
def _without_pickle() -> Iterator[None]:
    """Let torch read tensors alone: torch.export unpickles whatever a file says is pickled, and has no option against it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def open_file(path: Path, threads: int | None) -> ExportedProgramFile:
    """The file, ready to run."""
    return ExportedProgramFile(path, threads)
