"""The contenders: networks by name, and exported files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from espnetv2.benchmarking.accuracy import catalogue_accuracy, info_accuracy
from espnetv2.benchmarking.report import Accuracy, Answer
from espnetv2.benchmarking.rivals import RIVALS, rival
from espnetv2.errors import UserError, nearest
from espnetv2.factory import create_model, load_model
from espnetv2.models.network import Network
from espnetv2.models.registry import MODELS, Task, model_spec
from espnetv2.weights.resolve import is_checkpoint, resolve

if TYPE_CHECKING:
    from espnetv2.acceleration.inference import Output

EXPORTED = (".onnx", ".xml")
SIZES: dict[Task, tuple[int, int]] = {
    "classification": model_spec("espnetv2_s1_0").reference_size,
    "segmentation": model_spec("espnetv2_seg_s1_0").reference_size,
}
CLASSES: dict[Task, int] = {"classification": 1000, "segmentation": 20}
"""Outputs of a rival: as many as this package's networks have."""
_SETTLING = 4


class Graph(nn.Module):
    """A network with the output that users want: the logits of an image, or its class map.

    Args:
        network: outputs logits (N, classes) or (N, classes, H, W), or a dictionary with them as ``out``.
        task: classification or segmentation.
        winners: number of outputs that are classes.
    """

    def __init__(self, network: nn.Module, task: Task, winners: int) -> None:
        super().__init__()
        self.network = network
        self.segments = task == "segmentation"
        self.winners = winners

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W) to logits (N, classes) or class map (N, H, W)."""
        answer = self.network(image)
        logits: Tensor = answer["out"] if isinstance(answer, dict) else answer
        return logits[:, : self.winners].argmax(1) if self.segments else logits


@dataclass(frozen=True)
class Contender:
    """One network, ready for a backend."""

    name: str
    task: Task
    size: tuple[int, int]
    """Height and width of its input."""
    answer: Answer
    accuracy: Accuracy | None = None
    graph: Graph | None = None
    """None for an exported file."""
    trained: bool = False
    """Whether the graph's parameters are trained."""
    file: Path | None = None

    @property
    def own(self) -> Network | None:
        """The network, if it is this package's."""
        network = self.graph.network if self.graph is not None else None
        return network if isinstance(network, Network) else None

    @property
    def output(self) -> Output:
        """The output to request from ``espnetv2.accelerate`` or an exporter."""
        return "classes" if self.task == "segmentation" else "logits"


def find_contender(
    name: str, size: tuple[int, int] | None = None, batch: int = 1, weights_dir: str | Path | None = None
) -> Contender:
    """The contender called ``name``: a model, ``model.tag``, a checkpoint, a rival ``package:model`` or an exported file.

    Without weights the parameters are random, but the same at every call; they do not affect the amount of work.

    Args:
        name: of the contender.
        size: (height, width) of its input; by default 224x224 for classification, 1024x512 (width x height) for
            segmentation, or the fixed size of an exported file.
        batch: images per batch.
        weights_dir: folder that is searched first for released files.

    Raises:
        UserError: there is no such network or file, its package is missing, or a file has another fixed size or batch size.
    """
    if Path(name).suffix.lower() in EXPORTED:
        from espnetv2.benchmarking.runtimes import read_signature

        signature = read_signature(Path(name), size, batch)
        return Contender(name, signature.task, signature.size, signature.answer, file=Path(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        package, _, model = name.partition(":")
        return _rival(name, package, model, size) if model and package in RIVALS else _own(name, size, weights_dir)


def settled(contender: Contender) -> Contender:
    """The contender, after one pass over random images in training mode if its parameters are random.

    This gives normalisation the statistics that match the parameters, so that no activation vanishes or explodes, and the
    output is worth comparing.

    Raises:
        UserError: the network does not support its input size.
    """
    graph = contender.graph
    if graph is None:
        return contender
    try:
        if contender.trained:
            graph(random_image(1, contender.size))
        else:
            _settle(graph, random_image(_SETTLING, contender.size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        height, width = contender.size
        raise UserError(f"{contender.name} cannot take {width}x{height}: {reason}") from error
    return contender


def random_image(batch: int, size: tuple[int, int]) -> Tensor:
    """Float32 (batch, 3, height, width), coarse patches under fine noise, so that its class map has several classes."""
    noise = torch.Generator().manual_seed(0)
    height, width = size
    coarse = torch.randn(batch, 3, -(-height // 16), -(-width // 16), generator=noise)
    patches = nn.functional.interpolate(coarse, scale_factor=16.0, mode="nearest")[..., :height, :width]
    return (patches + 0.3 * torch.randn(batch, 3, height, width, generator=noise)).contiguous()


def _rival(name: str, package: str, model: str, size: tuple[int, int] | None) -> Contender:
    found = rival(package, model, CLASSES)
    graph = Graph(found.network, found.task, CLASSES[found.task]).eval().requires_grad_(False)
    return Contender(name, found.task, size or SIZES[found.task], _answer(found.task), found.accuracy, graph)


def _own(name: str, size: tuple[int, int] | None, weights_dir: str | Path | None) -> Contender:
    if is_checkpoint(name):
        network = load_model(resolve(name))
    elif ":" in name:
        raise UserError(f'no network "{name}": the prefix before the colon must be one of {", ".join(RIVALS)}')
    elif (base := name.partition(".")[0]) not in MODELS:
        raise UserError(f'no model "{name}": {nearest(base, MODELS)} Those of others need a prefix: {", ".join(RIVALS)}')
    else:
        network = create_model(name, weights_dir=weights_dir)
    info = network.info
    task: Task = info.task if info is not None else model_spec(name).task
    size = size or SIZES[task]
    accuracy = catalogue_accuracy(name, size) if info is None else info_accuracy(info)
    winners = len(info.classes) if info is not None else network.num_classes
    graph = Graph(network, task, winners).eval().requires_grad_(False)
    return Contender(name, task, size, _answer(task), accuracy, graph, trained=info is not None)


def _settle(graph: Graph, image: Tensor) -> None:
    norms = [layer for layer in graph.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        graph.train()(image)
    graph.eval()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _answer(task: Task) -> Answer:
    return "class map" if task == "segmentation" else "logits"
