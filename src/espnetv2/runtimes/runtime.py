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
    """A network in a runtime of its own; ``description`` says what goes in and comes out."""

    description: Description

    def __call__(self, images: Array) -> Array:
        """One batch."""
        ...


class Kind(NamedTuple):
    """Where a kind of file is opened, and the extra that installs what that needs."""

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
    """Whether the name is one of an exported file."""
    return Path(path).suffix.lower() in KINDS


def open_runtime(path: str | Path, *, threads: int | None = None) -> Runtime:
    """An exported file, ready to run.

    Args:
        path: the file; for OpenVINO the ``.xml``; for NCNN and Core ML the folder.
        threads: of the CPU; by default as many as the runtime thinks best.

    Raises:
        UserError: there is no such file, its runtime is not installed or not for this platform, or it is damaged or carries
            no description.
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
        # A runtime may need more than its own package, torch above all.
        if missing == "espnetv2":
            raise
        raise MissingPackageError(missing, kind.extra, f"running {path.name}") from error
    return runtime
