"""Import ONNX Runtime and OpenVINO without telemetry: both would write to the user's home and send data, unasked."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """ONNX Runtime, or a module of it. If the user has set ORT_DISABLE_TELEMETRY, that value is kept.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    # Read when the library is loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module(module)


def import_openvino() -> Any:
    """OpenVINO.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    # Its package depends on the telemetry, but it also runs where that is not installed.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    return import_module("openvino")
