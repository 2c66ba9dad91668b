"""ONNX files, by torch's exporter; quantised by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from espnetv2 import __version__
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.compacting import compact
from espnetv2.exporting.graph import Graph, dynamic_shapes, example_input
from espnetv2.info import generic_info
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.network import Network
from espnetv2.models.registry import model_spec
from espnetv2.runtimes.description import KEY, Description, Output
from espnetv2.runtimes.quiet import quiet

OPSET = 20


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one self-contained ``.onnx`` file."""
    model = quantised_or_not(network, description, calibration)
    if description.precision == "fp16":
        halve_weights(model)
    compact(model)
    helper.set_model_props(model, {KEY: description.model_dump_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def convert(network: Network, output: Output, shape: tuple[int, int, int, int], path: Path) -> None:
    """Write a network, trained or not, for float32 images of one shape (N, 3, H, W), without verification."""
    # Of an untrained network's description, only the task and the number of outputs affect the graph.
    stand_in = model_spec("espnetv2_s1_0" if isinstance(network, ClassificationModel) else "espnetv2_seg_s1_0")
    info = network.info or generic_info(stand_in, network.num_classes)
    info = info.model_copy(update={"preprocessing": info.preprocessing.resized(shape[2], shape[3])})
    description = Description(info=info, format="onnx", output=output, version=__version__)
    model = traced(network, description, batch=shape[0])
    compact(model)
    onnx.save(model, path)


def quantised_or_not(network: Network, description: Description, calibration: Calibration | None) -> Any:
    """The network as an ONNX model in memory, in 8 bits if the description says so."""
    model = traced(network, description)
    if description.precision != "int8":
        return model
    assert calibration is not None
    from espnetv2.exporting.int8 import quantised

    return quantised(model, calibration)


def traced(network: Network, description: Description, *, prelu: bool = False, batch: int = 1) -> Any:
    """The network as an ONNX model in memory, float32."""
    graph = Graph(network, description, prelu=prelu)
    with quiet():
        program = torch.onnx.export(
            graph,
            (example_input(description, batch),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[description.output],
            dynamic_shapes=(dynamic_shapes(description),) if description.dynamic else None,
        )
    assert program is not None
    return program.model_proto


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


@contextmanager
def saved(model: Any) -> Iterator[Path]:
    """The model in a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        yield path
