"""``.pt2`` files, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from espnetv2.errors import UserError
from espnetv2.runtimes.description import KEY, read_description
from espnetv2.runtimes.program_archive import RefusedError, checked_archive
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import Array


class ExportedProgramFile:
    """A program of torch.export, on the CPU."""

    def __init__(self, path: Path, threads: int | None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        extra = {KEY: ""}
        try:
            archive = checked_archive(path)
            with quiet():
                program = torch.export.load(archive, extra_files=extra)
        except RefusedError as error:
            raise UserError(f"{path} was refused, since it contains more than a network ({error}): export it again") from error
        except Exception as error:
            # A damaged file can break the reader anywhere.
            raise UserError(f"{path} is damaged or not a .pt2 file ({type(error).__name__}): export it again") from error
        self.description = read_description(extra[KEY], path)
        self._module = program.module()

    @torch.inference_mode()
    def __call__(self, images: Array) -> Array:
        """One batch."""
        # torch requires writable memory.
        out: Array = self._module(torch.from_numpy(np.require(images, requirements="W"))).numpy()
        return out


def open_file(path: Path, threads: int | None) -> ExportedProgramFile:
    """The file, ready to run."""
    return ExportedProgramFile(path, threads)
