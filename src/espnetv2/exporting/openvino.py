"""OpenVINO IR, from the ONNX graph, quantised or not."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.onnx import quantised_or_not, saved
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write ``.xml`` and, beside it, ``.bin``."""
    openvino: Any = import_module("openvino")
    with saved(quantised_or_not(network, description, calibration)) as source:
        model = openvino.convert_model(str(source))
        model.set_rt_info(description.model_dump_json(), [KEY])
        openvino.save_model(model, str(path), compress_to_fp16=description.precision != "fp32")
