"""Networks of other packages, with random parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import nn

from espnetv2.benchmarking.accuracy import torchvision_accuracy
from espnetv2.benchmarking.report import Accuracy
from espnetv2.errors import UserError, nearest
from espnetv2.models.registry import Task


@dataclass(frozen=True)
class Rival:
    """A network of another package, in training mode."""

    network: nn.Module
    task: Task
    accuracy: Accuracy | None = None


def rival(package: str, model: str, classes: Mapping[Task, int]) -> Rival:
    """The network ``model`` of a package in ``RIVALS``, with the number of outputs in ``classes`` for its task.

    Raises:
        UserError: the package is not installed, or has no such network.
    """
    return RIVALS[package](model, classes)


def _timm(model: str, classes: Mapping[Task, int]) -> Rival:
    timm = _package("timm", "timm")
    if not timm.is_model(model):
        raise UserError(f'timm has no model "{model}": {nearest(model, timm.list_models())}')
    return Rival(timm.create_model(model, pretrained=False, num_classes=classes["classification"]), "classification")


def _torchvision(model: str, classes: Mapping[Task, int]) -> Rival:
    from torchvision import models

    suited = {name: task for name in models.list_models() if (task := _torchvision_task(name)) is not None}
    if model not in suited:
        raise UserError(f'torchvision has no classifier or segmentation network "{model}": {nearest(model, suited)}')
    task = suited[model]
    options: dict[str, Any] = {"weights": None, "num_classes": classes[task]}
    if task == "segmentation":
        options["weights_backbone"] = None
    network: nn.Module = models.get_model(model, **options)
    return Rival(network, task, torchvision_accuracy(model, task))


def _torchvision_task(model: str) -> Task | None:
    from torchvision import models

    home = models.get_model_builder(model).__module__.removeprefix("torchvision.models.")
    if home.startswith("segmentation."):
        return "segmentation"
    return None if "." in home else "classification"


def _smp(model: str, classes: Mapping[Task, int]) -> Rival:
    smp = _package("segmentation_models_pytorch", "segmentation-models-pytorch")
    decoder, _, encoder = model.partition("/")
    if decoder not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise UserError(
            f'segmentation_models_pytorch has no decoder "{decoder}": {nearest(decoder, smp.MODEL_ARCHITECTURES_MAPPING)}'
        )
    encoders = smp.encoders.get_encoder_names()
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise UserError(
            f'segmentation_models_pytorch has no encoder "{encoder}": write smp:DECODER/ENCODER; {nearest(encoder, encoders)}'
        )
    made = smp.create_model(decoder, encoder_name=encoder, encoder_weights=None, classes=classes["segmentation"])
    return Rival(made, "segmentation")


def _package(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"{module} is not installed: pip install {package}") from error


RIVALS: dict[str, Callable[[str, Mapping[Task, int]], Rival]] = {"timm": _timm, "torchvision": _torchvision, "smp": _smp}
"""Keys are the prefixes before the colon of a rival's name."""
