from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from espnetv2.benchmarking.agreement import as_array, check_answer
from espnetv2.benchmarking.runtimes import bound
from espnetv2.errors import UserError

LOGITS = np.linspace(-2, 10, 12, dtype=np.float32).reshape(2, 6)
CLASSES = (np.arange(5000) % 7).reshape(1, 50, 100)


def test_rounding_is_right() -> None:
    check_answer(LOGITS + 0.009, LOGITS)
    rounded = CLASSES.copy()
    rounded[0, 0, :5] += 1
    check_answer(rounded.astype(np.uint8), CLASSES)


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        (LOGITS + 0.011, LOGITS, "differs from the reference by 1.1e-03"),
        (LOGITS * np.float32("nan"), LOGITS, "nan"),
        (LOGITS[:1], LOGITS, r"shape is \(1, 6\), not \(2, 6\)"),
        (np.where(CLASSES == 3, 0, CLASSES), CLASSES, "85.7% of the class map"),
        (np.zeros_like(CLASSES), np.zeros_like(CLASSES), "the same everywhere"),
    ],
)
def test_other_answers_are_refused(found: np.ndarray, wanted: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_answer(found, wanted)


def test_the_output_of_a_binding_is_fetched(tmp_path: Path) -> None:
    """As on a GPU, where the runtime leaves its output."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "negative.onnx")
    session: Any = onnxruntime.InferenceSession(tmp_path / "negative.onnx", providers=["CPUExecutionProvider"])
    image = torch.tensor([[1.0, 2.0, 3.0]])
    binding = bound(session, image)
    session.run_with_iobinding(binding)
    assert as_array(binding).tolist() == [[-1, -2, -3]]


def test_an_answer_outlasts_the_next_one() -> None:
    """Runtimes write into the same memory again."""
    memory = np.zeros(3)
    kept = as_array(memory), as_array(torch.from_numpy(memory))
    memory += 1
    assert [array.sum() for array in kept] == [0, 0]


def test_answers_of_every_runtime_become_arrays() -> None:
    for answer in (LOGITS, [LOGITS], torch.from_numpy(LOGITS), (torch.from_numpy(LOGITS), None)):
        np.testing.assert_array_equal(as_array(answer), LOGITS)
