"""Files that are no exported files, damaged ones, and ones of another version give one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from espnetv2.errors import UserError
from espnetv2.inference.predictor import Predictor
from espnetv2.info import generic_info
from espnetv2.models.registry import model_spec
from espnetv2.runtimes.description import Description, read_description
from espnetv2.runtimes.runtime import KINDS, is_exported, open_runtime

READ_HERE = (".onnx", ".xml", ".pt2")


def described(**changes: object) -> str:
    info = generic_info(model_spec("espnetv2_s0_5"), 3)
    text = Description(info=info, format="onnx", version="9").model_dump_json()
    return json.dumps(json.loads(text) | changes)


def foreign(path: Path) -> Path:
    """A file of ONNX that somebody else has made."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("suffix", READ_HERE)
def test_a_damaged_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"neither this nor that")
    with pytest.raises(UserError, match=r"is damaged or not an? .* export it again"):
        open_runtime(path)


@pytest.mark.parametrize("suffix", KINDS)
def test_an_absent_file(suffix: str, tmp_path: Path) -> None:
    assert is_exported(f"a{suffix}")
    with pytest.raises(UserError, match="no exported file"):
        Predictor(tmp_path / f"model{suffix}")


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not contain a description"):
        open_runtime(foreign(tmp_path / "model.onnx"))


def test_another_version() -> None:
    for text in (described(layout=2), described(layout=2, new="key")):
        with pytest.raises(UserError, match="export it again with this one"):
            read_description(text, Path("model.onnx"))
    assert read_description(described(), Path("model.onnx")).version == "9"


def test_a_damaged_description() -> None:
    for text in ("{", described(input="float64"), described(info={})):
        with pytest.raises(UserError, match=r"damaged|another version"):
            read_description(text, Path("model.onnx"))
