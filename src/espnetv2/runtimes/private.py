"""ONNX Runtime and OpenVINO without what they tell their makers: both write to the user's home and send it, unasked."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """ONNX Runtime, or a module of it. Where the user has set ORT_DISABLE_TELEMETRY, that holds.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    # It is read when the library is loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module(module)


def import_openvino() -> Any:
    """OpenVINO.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    # What it does without where its telemetry is not installed, though its package asks for it.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    return import_module("openvino")
