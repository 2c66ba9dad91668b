"""Quantisation after training: 8-bit weights per channel, activations by what calibration pictures show."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.onnx import quiet

QUANTISED = ("Conv", "MatMul", "Gemm")


def quantised(model: Any, calibration: Calibration) -> Any:
    """An ONNX model with convolutions and matrix products in 8 bits; everything else stays in float32."""
    with TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Reader(model.graph.input[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(target)


def quantised_openvino(model: Any, calibration: Calibration) -> Any:
    """An OpenVINO model with what NNCF quantises in 8 bits."""
    nncf: Any = import_module("nncf")
    with quiet():
        data = nncf.Dataset(list(calibration.inputs()))
        return nncf.quantize(model, data, subset_size=len(calibration), preset=nncf.QuantizationPreset.MIXED)


class _Reader(CalibrationDataReader):
    """Feeds pictures to ONNX Runtime's calibration."""

    def __init__(self, name: str, calibration: Calibration) -> None:
        self._name = name
        self._inputs: Iterator[Any] = calibration.inputs()

    def get_next(self) -> Any:
        """The next batch, or None at the end."""
        images = next(self._inputs, None)
        return None if images is None else {self._name: images}
