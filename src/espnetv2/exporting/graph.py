"""The graph that every format is exported from: input stage, network, output stage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from espnetv2.exporting.folding import with_weights
from espnetv2.exporting.rewriting import rewritten
from espnetv2.info import ModelInfo
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.psp import PSPDecoder
from espnetv2.models.network import Network
from espnetv2.postprocessing import class_map_type
from espnetv2.preprocessing import Preprocessing
from espnetv2.runtimes.description import LARGEST_SIDE, SMALLEST_DYNAMIC, Description


class Normalisation(nn.Module):
    """Pixels (N, H, W, 3) RGB, uint8 -> network input (N, 3, H, W), as ``Preprocessing.normalise``."""

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.reverse = preprocessing.channels == "BGR"
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (preprocessing.mean, preprocessing.std))
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().reshape(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        planes = pixels.permute(0, 3, 1, 2).float()
        if self.reverse:
            planes = planes.flip(1)
        return planes * self.scale + self.shift


class Decision(nn.Module):
    """Logits (N, classes, ...) -> index of the largest: uint8 maps, int32 beyond 256 classes; int64 (N)."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        self.classes = len(info.classes)
        self.dtype = class_map_type(self.classes) if info.task == "segmentation" else torch.int64

    def forward(self, logits: Tensor) -> Tensor:
        return logits.argmax(1).to(self.dtype)


class Graph(nn.Module):
    """A network as it is exported.

    Args:
        network: in evaluation mode.
        description: of the file to be written.
        prelu: whether the runtime has a fast PReLU.
    """

    def __init__(self, network: Network, description: Description, *, prelu: bool) -> None:
        super().__init__()
        preprocessing = description.info.preprocessing
        size = None if description.dynamic else (preprocessing.height, preprocessing.width)
        self.prepare: nn.Module = Normalisation(preprocessing) if description.input == "uint8" else nn.Identity()
        self.network = rewritten(network, prelu=prelu, size=size, even=description.precision == "int8")
        self.decide: nn.Module = nn.Identity()
        if description.output == "classes":
            keep_outputs(self.network, len(description.info.classes))
            self.decide = Decision(description.info)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.decide(self.network(self.prepare(image)))
        return out


def keep_outputs(network: Network, count: int) -> None:
    """Drop the last layer's outputs from ``count`` on, which are not classes, in a rewritten network."""
    if isinstance(network, ClassificationModel):
        classifier = nn.Linear(network.classifier.in_features, count)
        classifier.load_state_dict({name: value[:count] for name, value in network.classifier.state_dict().items()})
        network.classifier = classifier.requires_grad_(False)
        return
    decoder = network.decoder
    layers = decoder.classify1 if isinstance(decoder, PSPDecoder) else decoder.get_submodule("pool1.expand")
    assert isinstance(layers, nn.Sequential)
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    bias = torch.zeros(count) if last.bias is None else last.bias[:count]
    layers[-1] = with_weights(last, last.weight[:count], bias)


def example_input(description: Description, batch: int = 1) -> Tensor:
    """A dummy of the shape and type that the graph accepts."""
    height, width = description.info.preprocessing.height, description.info.preprocessing.width
    if description.dynamic:
        # Sizes of 1 would be taken for constants, and so would sides that happen to be equal.
        batch, height, width = batch + 1, max(height, 2 * SMALLEST_DYNAMIC), max(width, 3 * SMALLEST_DYNAMIC)
    if description.input == "uint8":
        return torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return torch.zeros(batch, 3, height, width)


def dynamic_shapes(description: Description) -> dict[int, Any]:
    """The dimensions of the input that may have any size."""
    rows = 1 if description.input == "uint8" else 2
    return {
        0: torch.export.Dim("batch", min=1),
        rows: torch.export.Dim("height", min=SMALLEST_DYNAMIC, max=LARGEST_SIDE),
        rows + 1: torch.export.Dim("width", min=SMALLEST_DYNAMIC, max=LARGEST_SIDE),
    }
