"""NCNN folders, by NCNN's own converter from a traced graph."""

from __future__ import annotations

import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from espnetv2.errors import UserError
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.graph import Graph, example_input
from espnetv2.models.network import Network
from espnetv2.models.registry import model_spec
from espnetv2.runtimes.description import Description
from espnetv2.runtimes.ncnn import DESCRIPTION, PARAMETERS, STRUCTURE
from espnetv2.runtimes.quiet import quiet

SMALLEST_HEIGHT = 17
"""Below, the deepest feature map has a single row."""


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write the folder: structure, parameters, description.

    Raises:
        UserError: the height is too small, or the converter fails.
    """
    del calibration
    height = description.info.preprocessing.height
    if height < SMALLEST_HEIGHT and model_spec(description.info.model).decoder == "pyramid":
        raise UserError(
            f"height {height}: NCNN's runtime crashes on this decoder below {SMALLEST_HEIGHT}: choose a larger size"
        )
    pnnx: Any = import_module("pnnx")
    trace: Any = torch.jit.trace
    graph = Graph(network, description, prelu=True)
    example = example_input(description)
    # The converter leaves files of other formats beside its input.
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            trace(graph, (example,), check_trace=False).save(f"{folder}/traced.pt")
        shape = ",".join(map(str, example.shape))
        halve = int(description.precision == "fp16")
        command = [pnnx.EXEC_PATH, "traced.pt", f"inputshape=[{shape}]f32", f"fp16={halve}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        made = {STRUCTURE: Path(folder) / "traced.ncnn.param", PARAMETERS: Path(folder) / "traced.ncnn.bin"}
        if done.returncode != 0 or not all(file.exists() for file in made.values()):
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"NCNN's converter failed ({last}): try another version of the package pnnx")
        path.mkdir()
        for name, file in made.items():
            (path / name).write_bytes(file.read_bytes())
    (path / DESCRIPTION).write_text(description.model_dump_json(), encoding="utf-8")
