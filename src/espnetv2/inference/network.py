"""Run a network in PyTorch, or in this package's own kernels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from espnetv2.acceleration.backends import check_backend
from espnetv2.acceleration.inference import accelerate as accelerated
from espnetv2.device import choose_device
from espnetv2.inference.engine import ClassMap, Ranking
from espnetv2.models.network import Network
from espnetv2.postprocessing import class_map, top_classes

GPU_BATCH = 8


class NetworkEngine:
    """A network in PyTorch; see ``Predictor`` for the arguments.

    Raises:
        UserError: unknown device or backend.
    """

    def __init__(
        self, network: Network, device: str, size: tuple[int, int] | None, batch_size: int | None, backend: str
    ) -> None:
        self.device = choose_device(device)
        chosen = check_backend(backend, self.device.type)
        assert network.info is not None
        self.info = network.info
        network = network.to(self.device).eval()
        self.dtype = next(network.parameters()).dtype
        self.model: torch.nn.Module = network if chosen == "eager" else accelerated(network, backend=chosen)
        self.preprocessing = self.info.preprocessing.resized(*size) if size else self.info.preprocessing
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)

    def prepare(self, picture: Image.Image) -> Tensor:
        """Image -> (3, H, W)."""
        return torch.from_numpy(self.preprocessing(picture))

    @torch.inference_mode()
    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Logits of each input, on the network's device."""
        batch = torch.stack(inputs).to(self.device, self.dtype, non_blocking=True)
        return list(self.model(batch).float())

    @torch.inference_mode()
    def class_map(self, output: Tensor, size: tuple[int, int]) -> ClassMap:
        """Class of every pixel at ``size`` from one image's logits (outputs, h, w)."""
        found = class_map(output, len(self.info.classes), size).cpu().numpy()
        return found if found.dtype == np.uint8 else found.astype(np.uint16)

    @torch.inference_mode()
    def ranking(self, output: Tensor, count: int) -> Ranking:
        """The most probable classes from one image's logits (outputs,)."""
        return top_classes(output, len(self.info.classes), count)
