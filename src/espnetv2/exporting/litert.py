"""LiteRT (formerly TensorFlow Lite) ``.tflite`` files."""

from __future__ import annotations

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.graph import Graph, example_input
from espnetv2.models.network import Network
from espnetv2.runtimes.description import Description
from espnetv2.runtimes.litert import DESCRIPTION
from espnetv2.runtimes.quiet import quiet


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one ``.tflite`` file. The description is in a ZIP archive after the graph, as TensorFlow's tools do it."""
    del calibration
    # LiteRT has no PReLU: it would become four operations, the maximum is two.
    graph = Graph(network, description, prelu=False)
    with quiet():
        litert_torch: Any = import_module("litert_torch")
        litert_torch.convert(graph, (example_input(description),)).export(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(DESCRIPTION, description.model_dump_json())
