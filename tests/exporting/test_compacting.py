"""Saying less in an ONNX model changes nothing of what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from espnetv2.exporting.compacting import compact


def test_a_compacted_model_computes_the_same_and_is_smaller() -> None:
    model = _model()
    image = np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32)
    before, size = _run(model, image), model.ByteSize()
    compact(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(_run(model, image), before)
    assert model.ByteSize() < size / 2


def test_only_what_goes_without_saying_is_dropped() -> None:
    model = _model()
    compact(model)
    plain, strided, resize = model.graph.node
    assert not plain.attribute
    assert {attribute.name for attribute in strided.attribute} == {"strides", "dilations", "pads", "group"}
    assert {attribute.name for attribute in resize.attribute} == {"mode", "coordinate_transformation_mode"}


def test_input_and_output_keep_their_names() -> None:
    model = _model()
    compact(model)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["image", "logits"]
    assert {tensor.name for tensor in model.graph.initializer} == {"0", "1", "2"}


def _run(model: Any, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (out,) = session.run(None, {"image": image})
    return np.asarray(out)


def _model() -> Any:
    """A convolution with nothing but defaults, one with none, and a resizing with both."""
    draw = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(draw.standard_normal((2, 2, 1, 1)).astype(np.float32), "a.rather.long.name.weight"),
        numpy_helper.from_array(draw.standard_normal((2, 1, 3, 3)).astype(np.float32), "another.rather.long.name.weight"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "a.name.of.the.factors.of.the.enlargement"),
    ]
    nodes = [
        helper.make_node(
            "Conv",
            ["image", weights[0].name],
            ["the.output.of.the.first.convolution"],
            name="a_name_that_the_exporter_gives_to_the_first_node",
            kernel_shape=[1, 1],
            strides=[1, 1],
            dilations=[1, 1],
            pads=[0, 0, 0, 0],
            group=1,
            auto_pad="NOTSET",
        ),
        helper.make_node(
            "Conv",
            ["the.output.of.the.first.convolution", weights[1].name],
            ["the.output.of.the.second.convolution"],
            kernel_shape=[3, 3],
            strides=[2, 2],
            dilations=[2, 2],
            pads=[2, 2, 2, 2],
            group=2,
        ),
        helper.make_node(
            "Resize",
            ["the.output.of.the.second.convolution", "", weights[2].name],
            ["logits"],
            mode="linear",
            coordinate_transformation_mode="align_corners",
            nearest_mode="round_prefer_floor",
            cubic_coeff_a=-0.75,
        ),
    ]
    for node in nodes:
        helper.set_model_props(node, {"namespace": "where the node comes from, which an exporter writes at great length" * 4})
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 9, 9])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2, 10, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
