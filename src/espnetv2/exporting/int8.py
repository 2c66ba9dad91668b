"""Post-training quantisation: 8-bit weights per channel, activation ranges from calibration images."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.compacting import halve_weights
from espnetv2.runtimes.private import import_onnxruntime
from espnetv2.runtimes.quiet import quiet

QUANTISED = ("Conv", "Gemm")
# Activations beyond it are clipped: a few outliers would coarsen all the rest.
PERCENTILE = 99.9999
IMAGE_CHANNELS = 3
WIDEST_GROUP = 8
BY_NAME = re.compile(r"\bpool[1-4]\.expand\.|\.down\.")


def quantised(model: Any, calibration: Calibration) -> Any:
    """An ONNX model with most of its convolutions in 8 bits; everything else stays in float.

    Grouped 3x3 convolutions, those of the image, of downsampling units and behind a pyramid's merge hold few parameters and
    little of the work, and rounding them costs the most: measured in docs/decisions/int8.md. Their weights are kept in 16 bits.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kept = [node.name for node in convolutions if _stays_in_float(node.input[1], shapes[node.input[1]])]
    quantization = import_onnxruntime("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            target,
            _Reader(model.graph.input[0].name, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            # One image at a time: the activations of all of them would take gigabytes.
            extra_options={"CalibPercentile": PERCENTILE, "QuantizeBias": False, "CalibStridedMinMax": 1},
        )
        made = onnx.load(target)
    halve_weights(made)
    return made


def _stays_in_float(name: str, weight: tuple[int, int, int, int]) -> bool:
    """Decided by the weight's name and shape (out, in per group, height, width)."""
    _, channels, height, _ = weight
    return channels <= IMAGE_CHANNELS or (height > 1 and channels <= WIDEST_GROUP) or BY_NAME.search(name) is not None


class _Reader:
    """Feeds images to ONNX Runtime's calibration, which asks for them in groups."""

    def __init__(self, name: str, calibration: Calibration) -> None:
        self._name = name
        self._count = len(calibration)
        self._inputs: Iterator[Any] = calibration.inputs()
        self._left = 0

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Begin a group; the groups are in order."""
        self._left = end_index - start_index

    def get_next(self) -> Any:
        """The next batch, or None at the end of the group."""
        if self._left == 0:
            return None
        self._left -= 1
        return {self._name: next(self._inputs)}
