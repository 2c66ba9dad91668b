"""Files that are no exported files, damaged ones, and ones of another version give one clear line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
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
    with pytest.raises(UserError, match=r"is damaged or no .* export it anew"):
        open_runtime(path)


class _Command:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self._folder,)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """A .pt2 file may say of each of its weights that it is pickled."""
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "good.pt2")
    payload = io.BytesIO()
    torch.save({"a": _Command(tmp_path / "made")}, payload)
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for entry in good.infolist():
            content = good.read(entry)
            if entry.filename.endswith("_weights_config.json"):
                config = json.loads(content)
                for value in config["config"].values():
                    value["use_pickle"] = True
                content = json.dumps(config).encode()
            bad.writestr(entry.filename, payload.getvalue() if entry.filename.endswith("/weight_0") else content)
    with pytest.raises(UserError, match=r"is damaged or no \.pt2 file"):
        open_runtime(tmp_path / "bad.pt2")
    assert not (tmp_path / "made").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("suffix", KINDS)
def test_an_absent_file(suffix: str, tmp_path: Path) -> None:
    assert is_exported(f"a{suffix}")
    with pytest.raises(UserError, match="no exported file"):
        Predictor(tmp_path / f"model{suffix}")


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say what it is"):
        open_runtime(foreign(tmp_path / "model.onnx"))


def test_another_version() -> None:
    for text in (described(layout=2), described(layout=2, new="key")):
        with pytest.raises(UserError, match="export it anew with this one"):
            read_description(text, Path("model.onnx"))
    assert read_description(described(), Path("model.onnx")).version == "9"


def test_a_damaged_description() -> None:
    for text in ("{", described(input="float64"), described(info={})):
        with pytest.raises(UserError, match=r"damaged|another version"):
            read_description(text, Path("model.onnx"))
