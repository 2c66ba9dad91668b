"""TensorRT engines, built from the ONNX graph. An engine only fits the GPU and the TensorRT version that built it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from espnetv2.errors import UserError
from espnetv2.exporting.calibration import Calibration
from espnetv2.exporting.onnx import traced
from espnetv2.models.network import Network
from espnetv2.runtimes.description import Description
from espnetv2.runtimes.tensorrt import with_description


def write(network: Network, description: Description, calibration: Calibration | None, path: Path) -> None:
    """Write one ``.engine`` file, the description in front of the engine.

    Raises:
        UserError: TensorRT does not accept the graph, or cannot build for this GPU.
    """
    del calibration
    tensorrt: Any = import_module("tensorrt")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    # The types are those of the graph: version 11 knows no other way, version 10 must be told.
    graph = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(graph, logger)
    if not parser.parse(traced(network, description, prelu=True).SerializeToString()):
        raise UserError(f"TensorRT does not accept the network ({parser.get_error(0)}): choose another format, such as onnx")
    config = builder.create_builder_config()
    # TF32 keeps 10 bits of 23.
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    engine = builder.build_serialized_network(graph, config)
    if engine is None:
        raise UserError("TensorRT cannot build the network for this GPU (its messages are above): choose another format")
    path.write_bytes(with_description(bytes(engine), description))
