"""Open an exported file in the runtime that its suffix names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from espnetv2.errors import MissingPackageError, UserError
from espnetv2.runtimes.description import Description

Array = npt.NDArray[Any]


class Runtime(Protocol):
    """A network in its own runtime; ``description`` defines input and output."""

    description: Description

    def __call__(self, images: Array) -> Array:
        """Run one batch."""
        ...


class Kind(NamedTuple):
    """The module that opens a kind of file, and the extra that installs its requirements."""

    module: str
    extra: str


# The module has a function ``open_file(path, threads)``.
KINDS = {
    ".onnx": Kind("onnx", "export"),
    ".xml": Kind("openvino", "export"),
    ".pt2": Kind("exported_program", "export"),
    ".pte": Kind("executorch", "executorch"),
    ".tflite": Kind("litert", "litert"),
    ".ncnn": Kind("ncnn", "ncnn"),
    ".mlpackage": Kind("coreml", "coreml"),
    ".engine": Kind("tensorrt", "tensorrt"),
}


def is_exported(path: str | Path) -> bool:
    """Whether the name is that of an exported file."""
    return Path(path).suffix.lower() in KINDS


def open_runtime(path: str | Path, *, threads: int | None = None) -> Runtime:
    """Open an exported file, ready to run.

    Args:
        path: the file; for OpenVINO the ``.xml``; for NCNN and Core ML the folder.
        threads: CPU threads; by default the runtime's choice.

    Raises:
        UserError: there is no such file, its runtime is not installed or not for this platform, or it is damaged or has no
            description.
    """
    path = Path(path)
    kind = KINDS[path.suffix.lower()]
    if not path.exists():
        raise UserError(f'no exported file "{path}": check the path')
    try:
        module = import_module(f"espnetv2.runtimes.{kind.module}")
        runtime: Runtime = module.open_file(path, threads)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        # A runtime may require more than its own package, torch in particular.
        if missing == "espnetv2":
            raise
        raise MissingPackageError(missing, kind.extra, f"running {path.name}") from error
    return runtime
