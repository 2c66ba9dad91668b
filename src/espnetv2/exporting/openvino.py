"""OpenVINO IR, from the ONNX graph; quantised by NNCF."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.onnx import saved, traced
from espnetv2.models.network import Network
from espnetv2.runtimes.description import KEY, Description


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write ``.xml`` and, beside it, ``.bin``."""
    openvino: Any = import_module("openvino")
    with saved(traced(network, description, prelu=False)) as source:
        model = openvino.convert_model(str(source))
        if description.precision == "int8":
            assert calibration is not None
            from espnetv2.exporting.int8 import quantised_openvino

            model = quantised_openvino(model, calibration)
        model.set_rt_info(description.model_dump_json(), [KEY])
        openvino.save_model(model, str(path), compress_to_fp16=description.precision == "fp16")
