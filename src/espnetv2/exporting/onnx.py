"""ONNX files, by torch's exporter; quantised by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

# Here, since torch.onnx would import it later and turn Ctrl-C during that into an error of its own.
import torch._dynamo
from onnx import helper

from espnetv2 import __version__
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.compacting import compact, halve_weights
from espnetv2.exporting.graph import Graph, dynamic_shapes, example_input
from espnetv2.exporting.int8 import quantised
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
