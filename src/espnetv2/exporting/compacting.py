"""Strip redundant data from an ONNX model, which would be a good part of these networks' small files."""

from __future__ import annotations

from typing import Any

import onnx

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
    return bool(default.type) and onnx.helper.get_attribute_value(attribute) == onnx.helper.get_attribute_value(default)
