"""TensorRT engines, in TensorRT, with memory managed by torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from espnetv2.errors import UserError
from espnetv2.runtimes.description import Description, read_description
from espnetv2.runtimes.runtime import Array

LENGTH_BYTES = 4


class TensorRtFile:
    """An engine, on the GPU that torch uses."""

    def __init__(self, path: Path) -> None:
        tensorrt: Any = import_module("tensorrt")
        text, engine = split_description(path.read_bytes())
        self.description = read_description(text, path)
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise UserError(
                f"{path} is damaged, or was built for another GPU or TensorRT version: export it again on this machine"
            )
        self._context = self._engine.create_execution_context()
        self._lock = Lock()
        self._shape = tuple(self._engine.get_tensor_shape(self.description.output))

    def __call__(self, images: Array) -> Array:
        """A batch of one."""
        image = torch.from_numpy(np.require(images, requirements=("C", "W"))).cuda()
        out = torch.empty(self._shape, device="cuda")
        stream = torch.cuda.current_stream()
        with self._lock:
            self._context.set_tensor_address("image", image.data_ptr())
            self._context.set_tensor_address(self.description.output, out.data_ptr())
            self._context.execute_async_v3(stream.cuda_stream)
            stream.synchronize()
        return np.asarray(out.cpu())


def open_file(path: Path, threads: int | None) -> TensorRtFile:
    """The file, ready to run."""
    del threads
    return TensorRtFile(path)


def with_description(engine: bytes, description: Description) -> bytes:
    """An engine after its description: the description's length in 4 bytes, little-endian, then its JSON, then the engine."""
    text = description.model_dump_json().encode()
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + engine


def split_description(content: bytes) -> tuple[str | None, bytes]:
    """The description's text, or None if there is none, and the engine."""
    end = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    text = content[LENGTH_BYTES:end]
    return (text.decode(errors="replace"), content[end:]) if text.startswith(b"{") else (None, content)
