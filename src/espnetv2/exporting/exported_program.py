"""torch.export's own format, ``.pt2``, for programs that have PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.graph import Graph, example_input
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one ``.pt2`` archive."""
    del calibration
    graph = Graph(network, description, prelu=True)
    program = torch.export.export(graph, (example_input(description),))
    _forget_origin(program)
    torch.export.save(program, path, extra_files={KEY: description.model_dump_json()})


def _forget_origin(program: torch.export.ExportedProgram) -> None:
    """Drop the source locations of the operators and the example input: larger than the network, and private."""
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(name, None)
    program.example_inputs = None
