"""ESPNetv2: light-weight networks for image classification and semantic segmentation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espnetv2 import weights
    from espnetv2.acceleration.inference import accelerate
    from espnetv2.benchmarking.benchmark import benchmark
    from espnetv2.errors import UserError
    from espnetv2.exporting.export import export
    from espnetv2.factory import create_model
    from espnetv2.inference.predictor import Predictor
    from espnetv2.inference.results import ClassificationResult, SegmentationResult
    from espnetv2.models.registry import list_models
    from espnetv2.weights.catalogue import list_weights

__all__ = [
    "ClassificationResult",
    "Predictor",
    "SegmentationResult",
    "UserError",
    "__version__",
    "accelerate",
    "benchmark",
    "create_model",
    "export",
    "list_models",
    "list_weights",
    "weights",
]

__version__ = "0.1.0"

_HOMES = {
    "ClassificationResult": "espnetv2.inference.results",
    "Predictor": "espnetv2.inference.predictor",
    "SegmentationResult": "espnetv2.inference.results",
    "UserError": "espnetv2.errors",
    "accelerate": "espnetv2.acceleration.inference",
    "benchmark": "espnetv2.benchmarking.benchmark",
    "create_model": "espnetv2.factory",
    "export": "espnetv2.exporting.export",
    "list_models": "espnetv2.models.registry",
    "list_weights": "espnetv2.weights.catalogue",
}


def _resolve(name: str) -> object:
    # Names are resolved on first use, so that the command line starts fast and no library is loaded needlessly.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "weights":
        return import_module("espnetv2.weights")
    raise AttributeError(f"module 'espnetv2' has no attribute {name!r}")


if not TYPE_CHECKING:
    # Type checkers only see the imports above, and so detect a misspelt name.
    __getattr__ = _resolve


def __dir__() -> list[str]:
    return sorted(__all__)
