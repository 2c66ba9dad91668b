"""ExecuTorch ``.pte`` files for phones and boards, run by XNNPACK."""

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
    """Write one ``.pte`` file. Its method ``espnetv2`` returns the description."""
    del calibration
    graph = Graph(network, description, prelu=True)
    with quiet():
        exir: Any = import_module("executorch.exir")
        partitioner: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        lowered = exir.to_edge_transform_and_lower(
            torch.export.export(graph, (example_input(description),)),
            partitioner=[partitioner.XnnpackPartitioner()],
            constant_methods={KEY: description.model_dump_json()},
        )
        content = lowered.to_executorch().buffer
    path.write_bytes(content)
