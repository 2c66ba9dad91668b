"""The export formats as data: requirements and capabilities. Each has a module that writes it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from espnetv2.errors import MissingPackageError, UserError, nearest
from espnetv2.exporting.calibration import Calibration
from espnetv2.models.network import Network
from espnetv2.runtimes.description import Description, Input, Output, Precision

Writer = Callable[[Network, Description, Calibration | None, Path], None]


_ANYWHERE = ("linux", "darwin", "win32")


class Format(NamedTuple):
    """One row of the registry.

    Its module in ``espnetv2.exporting`` has ``write(network, description, calibration, path)``.
    """

    title: str
    module: str
    suffix: str
    packages: tuple[str, ...]
    extra: str
    precisions: tuple[Precision, ...]
    inputs: tuple[Input, ...] = ("float32", "uint8")
    outputs: tuple[Output, ...] = ("logits", "classes")
    dynamic: bool = False
    mark: str | None = None
    """If it is a folder: a file that every such folder contains."""
    beside: tuple[str, ...] = ()
    """Suffixes of the additional files that belong to it."""
    platforms: tuple[str, ...] = _ANYWHERE
    runs_on: tuple[str, ...] = _ANYWHERE
    """Platforms that have its runtime. On others a file can be written, but not verified."""
    tested: bool = True
    """Whether this project's tests run such files."""


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_FLOAT: tuple[Input, ...] = ("float32",)
_LOGITS: tuple[Output, ...] = ("logits",)
FORMATS = {
    "onnx": Format("ONNX", "onnx", ".onnx", _ONNX, "export", _ALL, dynamic=True),
    "openvino": Format(
        "OpenVINO IR",
        "openvino",
        ".xml",
        ("openvino", *_ONNX),
        "export",
        _ALL,
        dynamic=True,
        beside=(".bin",),
    ),
    "pt2": Format("torch.export", "exported_program", ".pt2", (), "export", ("fp32",)),
    "executorch": Format("ExecuTorch", "executorch", ".pte", ("executorch",), "executorch", ("fp32",)),
    "ncnn": Format("NCNN", "ncnn", ".ncnn", ("pnnx", "ncnn"), "ncnn", ("fp32", "fp16"), _FLOAT, _LOGITS, mark="espnetv2.json"),
    "litert": Format("LiteRT", "litert", ".tflite", ("litert_torch", "ai_edge_litert"), "litert", ("fp32",)),
    "coreml": Format(
        "Core ML",
        "coreml",
        ".mlpackage",
        ("coremltools",),
        "coreml",
        ("fp32", "fp16"),
        _FLOAT,
        _LOGITS,
        mark="Manifest.json",
        platforms=("linux", "darwin"),
        runs_on=("darwin",),
        tested=False,
    ),
    "tensorrt": Format(
        "TensorRT", "tensorrt", ".engine", ("tensorrt", *_ONNX), "tensorrt", ("fp32",), _FLOAT, _LOGITS, tested=False
    ),
}


def find_format(
    name: str,
    path: Path,
    precision: Precision,
    *,
    dynamic: bool,
    input: Input = "float32",
    output: Output = "logits",
) -> Format:
    """The format called ``name``, if it can be written here as requested.

    Raises:
        UserError: no such format, or it does not support the precision, input, output, sizes or this platform, or ``path`` has
            another suffix; a required package is not installed.
    """
    if name not in FORMATS:
        raise UserError(f'no format "{name}": {nearest(name, FORMATS)}')
    found = FORMATS[name]
    if path.suffix != found.suffix:
        raise UserError(f'"{path}": {found.title} file names end in {found.suffix}, such as "model{found.suffix}"')
    if precision not in found.precisions:
        raise UserError(f"{name} files do not support {precision}: choose {', '.join(found.precisions)}, or another format")
    if input not in found.inputs:
        raise UserError(f"{name} files do not support {input} input: choose input {found.inputs[0]}, or another format")
    if output not in found.outputs:
        raise UserError(f"{name} files do not support {output} as output: choose output {found.outputs[0]}, or another format")
    if dynamic and not found.dynamic:
        raise UserError(f"{name} files have a fixed input size: set size instead of dynamic")
    if sys.platform not in found.platforms:
        raise UserError(f"{name} files cannot be written on {sys.platform}: use {' or '.join(found.platforms)}")
    for package in found.packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(package, found.extra, f"writing {name} files")
    return found


def writer(found: Format) -> Writer:
    """The function that writes a format."""
    write: Writer = import_module(f"espnetv2.exporting.{found.module}").write
    return write
