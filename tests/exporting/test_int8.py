"""Which convolutions are quantised, and which stay in float."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from espnetv2 import __version__
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.int8 import quantised
from espnetv2.exporting.onnx import traced
from espnetv2.factory import create_model
from espnetv2.runtimes.description import Description
from helpers import picture


def test_only_what_bears_rounding_is_quantised(segmentation_file: Path, tmp_path: Path) -> None:
    network = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    assert network.info is not None
    info = network.info.model_copy(update={"preprocessing": network.info.preprocessing.resized(32, 64)})
    description = Description(info=info, format="onnx", output="logits", precision="int8", version=__version__)
    picture(64, 32).save(tmp_path / "picture.png")
    model = quantised(traced(network, description), Calibration(tmp_path, description))

    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    whole = {name.removesuffix("_quantized") for name, kind in kinds.items() if kind == TensorProto.INT8 and ".weight" in name}
    halves = {name.removesuffix(".half") for name, kind in kinds.items() if kind == TensorProto.FLOAT16}
    assert {"network.encoder.level3.units.0.expand.weight", "network.encoder.level4.units.0.reduce.0.weight"} <= whole
    assert "network.decoder.pool4.project.0.weight" in whole
    assert {"network.encoder.level1.0.weight", "network.encoder.level3.down.eesp.expand.weight"} <= halves
    assert not [name for name in whole if ".down." in name or ".expand.1" in name or ".branches." in name]
