"""Check a ``.pt2`` archive, so that opening it runs nothing: torch would unpickle, evaluate and execute parts of it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espnetv2.runtimes.description import KEY

PROGRAM = "models/model.json"
CONFIGURATIONS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
# torch requires one, and unpickles it unless it is empty.
EXAMPLE = "data/sample_inputs/model.pt"
LARGEST_BYTES = 256 * 2**20
_TENSOR = re.compile(r"(weight|tensor)_\d+", re.ASCII)
_MEMBER = re.compile(
    rf"data/(weights|constants)/{_TENSOR.pattern}|extra/{KEY}|archive_format|archive_version|byteorder|\.data/\w+", re.ASCII
)
_NAME = re.compile(r"[\w.]*", re.ASCII)
# Every operator of the graphs that this package exports: others of torch read, write and map files.
_OPERATORS = {
    f"torch.ops.aten.{name}"
    for name in (
        "_assert_tensor_metadata.default", "adaptive_avg_pool2d.default", "add.Tensor", "argmax.default", "avg_pool2d.default",
        "cat.default", "conv2d.default", "dropout.default", "feature_dropout.default", "flatten.using_ints", "flip.default",
        "linear.default", "matmul.default", "mean.dim", "mul.Tensor", "permute.default", "pixel_shuffle.default",
        "prelu.default", "sigmoid.default", "to.dtype", "upsample_bilinear2d.vec",
    )
}  # fmt: skip
# How one input tensor and one output tensor are written.
_SPECIFICATIONS = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "builtins.tuple", "context": "null", '
    '"children_spec": [{"type": null, "context": null, "children_spec": []}]}, {"type": "builtins.dict", "context": "[]", '
    '"children_spec": []}]}]',
    '[1, {"type": null, "context": null, "children_spec": []}]',
)
# The rest are expressions, nested graphs and objects of other kinds, which would be evaluated or unpickled.
_ARGUMENTS = {
    "as_tensor", "as_tensors", "as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_none",
    "as_scalar_type", "as_device", "as_layout", "as_memory_format",
}  # fmt: skip


class RefusedError(ValueError):
    """The archive contains something that no export of this package has."""


def checked_archive(path: Path) -> io.BytesIO:
    """The archive rewritten from the parts that have been checked, so that torch reads nothing else.

    Raises:
        RefusedError: it contains more than numbers, names and the operators of a network.
        Exception: of any other kind, if it is damaged.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        if sum(member.file_size for member in source.infolist()) > LARGEST_BYTES:
            raise RefusedError(f"more than {LARGEST_BYTES // 2**20} MiB")
        for member in source.infolist():
            name = member.filename.partition("/")[2]
            content = source.read(member)
            if name == PROGRAM:
                _check_program(json.loads(content))
            elif name in CONFIGURATIONS:
                _check_configuration(json.loads(content))
            elif name == EXAMPLE:
                content = b""
            elif _MEMBER.fullmatch(name) is None:
                raise RefusedError(f"the member {member.filename!r}")
            target.writestr(member.filename, content)
    out.seek(0)
    return out


def _check_program(program: dict[str, Any]) -> None:
    if program.get("guards_code") or program.get("range_constraints"):
        raise RefusedError("conditions on its input")
    for key, value in _entries(program):
        if not key and value.startswith("as_") and value not in _ARGUMENTS:
            raise RefusedError(f"an argument {value!r}")
        if not isinstance(value, str) or key == "torch_version":
            continue
        if key == "target" and value not in _OPERATORS:
            raise RefusedError(f"the operator {value!r}")
        if _NAME.fullmatch(value) is None and not (key.endswith("_spec") and value in _SPECIFICATIONS):
            raise RefusedError(f"the text {value[:40]!r}")


def _check_configuration(configuration: dict[str, Any]) -> None:
    for entry in configuration["config"].values():
        if entry["use_pickle"] is not False or _TENSOR.fullmatch(entry["path_name"]) is None:
            raise RefusedError("a pickled tensor")


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside with its key, and every key as a value without a key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _entries(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, key)
    else:
        yield key, value
