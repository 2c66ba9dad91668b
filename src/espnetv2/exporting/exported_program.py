"""torch.export's own format, ``.pt2``, for programs that have PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.graph import SMALLEST_DYNAMIC, Graph, example_input
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description

LARGEST_DYNAMIC = 8192


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one ``.pt2`` archive."""
    del calibration
    graph = Graph(network, description, prelu=True)
    program = torch.export.export(graph, (example_input(description),))
    torch.export.save(program, path, extra_files={KEY: description.model_dump_json()})


def dynamic_shapes(description: Description) -> dict[int, Any]:
    """Which sides of the input may be of any size."""
    rows = 1 if description.input == "uint8" else 2
    return {
        0: torch.export.Dim("batch", min=1),
        rows: torch.export.Dim("height", min=SMALLEST_DYNAMIC, max=LARGEST_DYNAMIC),
        rows + 1: torch.export.Dim("width", min=SMALLEST_DYNAMIC, max=LARGEST_DYNAMIC),
    }
