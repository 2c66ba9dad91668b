"""Core ML packages. Other platforms write them too, but only macOS runs them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.graph import Graph, example_input
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description
from espnetv2.runtimes.quiet import quiet


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one ``.mlpackage`` folder. The description is in the user-defined metadata."""
    del calibration
    graph = Graph(network, description, prelu=True)
    with quiet():
        coremltools: Any = import_module("coremltools")
        halve = description.precision == "fp16"
        # It reads only programs in torch's core set of operators.
        program = torch.export.export(graph, (example_input(description),)).run_decompositions({})
        model = coremltools.convert(
            program,
            inputs=[coremltools.TensorType(name="image", shape=tuple(example_input(description).shape))],
            outputs=[coremltools.TensorType(name=description.output)],
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT16 if halve else coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
        model.user_defined_metadata[KEY] = description.model_dump_json()
        model.save(str(path))
