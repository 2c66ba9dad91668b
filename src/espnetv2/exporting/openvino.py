"""OpenVINO IR, converted from the ONNX graph, quantised or not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import onnx

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.compacting import compact
from espnetv2.exporting.onnx import quantised_or_not
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description
from espnetv2.runtimes.private import import_openvino


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write ``.xml`` and, beside it, ``.bin``."""
    openvino = import_openvino()
    graph = quantised_or_not(network, description, calibration)
    compact(graph)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        onnx.save(graph, source)
        model = openvino.convert_model(str(source))
        # In ASCII, since XML does not allow every character.
        model.set_rt_info(json.dumps(description.model_dump(mode="json")), [KEY])
        openvino.save_model(model, str(path), compress_to_fp16=description.precision != "fp32")
    _without_indentation(path)


def _without_indentation(path: Path) -> None:
    """OpenVINO indents every dimension of every tensor, which takes more space than the parameters of a small network."""
    tree = ElementTree.parse(path)
    for element in tree.iter():
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    tree.write(path, encoding="utf-8", xml_declaration=True)
