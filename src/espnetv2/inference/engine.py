"""The interface to whatever runs a trained network: PyTorch, or the runtime of an exported file."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.info import ModelInfo
from espnetv2.preprocessing import Preprocessing

ClassMap = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Ranking = tuple[tuple[int, float], ...]


class Engine(Protocol):
    """A trained network, ready to run; the types of its inputs and outputs are internal to it."""

    info: ModelInfo
    preprocessing: Preprocessing
    batch_size: int
    """Images per forward pass."""

    def prepare(self, picture: Image.Image) -> Any:
        """Turn an image into an input; may run in a thread."""
        ...

    def run(self, inputs: list[Any]) -> list[Any]:
        """The network's output for each input of a batch."""
        ...

    def class_map(self, output: Any, size: tuple[int, int]) -> ClassMap:
        """Class of every pixel at ``size`` (height, width) from one output."""
        ...

    def ranking(self, output: Any, count: int) -> Ranking:
        """The ``count`` most probable classes of one output: (index, probability)."""
        ...
