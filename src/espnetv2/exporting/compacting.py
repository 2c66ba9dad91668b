"""Make an ONNX model's file smaller: of these networks, redundant data would be a good part of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ONES = ("strides", "dilations")


def compact(model: Any) -> None:
    """Drop the nodes' metadata, long names, and attributes with default values. Nothing else changes."""
    for item in (model, model.graph, *model.graph.node, *model.graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del model.graph.value_info[:]
    _number_tensors(model.graph)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    for node in model.graph.node:
        node.name = ""
        kept = [attribute for attribute in node.attribute if not _goes_without_saying(node.op_type, attribute, opset)]
        del node.attribute[:]
        node.attribute.extend(kept)


def halve_weights(model: Any) -> None:
    """Store float parameters in 16 bits. The runtime widens them once when it loads the file, and computes as before."""
    weights = {name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input}
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name not in weights or tensor.data_type != TensorProto.FLOAT:
            kept.append(tensor)
            continue
        halved = numpy_helper.to_array(tensor).astype(np.float16)
        kept.append(numpy_helper.from_array(halved, f"{tensor.name}.half"))
        widen = helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT)
        model.graph.node.insert(0, widen)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _number_tensors(graph: Any) -> None:
    """Number the tensors between input and output."""
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"{len(names):x}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


def _goes_without_saying(operator: str, attribute: Any, opset: int) -> bool:
    """Whether ONNX assumes the same value by default; its schema does not list the defaults of lists."""
    if attribute.name in ONES:
        return set(attribute.ints) == {1}
    if attribute.name == "pads":
        return set(attribute.ints) == {0}
    if operator == "Conv" and attribute.name == "kernel_shape":
        return True
    default = onnx.defs.get_schema(operator, opset).attributes[attribute.name].default_value
    return bool(default.type) and helper.get_attribute_value(attribute) == helper.get_attribute_value(default)
