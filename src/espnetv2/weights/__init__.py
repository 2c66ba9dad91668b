"""Trained weights: catalogue, downloads, checkpoint files, and the authors' parameter names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espnetv2.weights.catalogue import WeightEntry, find_weights, list_weights
    from espnetv2.weights.checkpoint import load_checkpoint, save_checkpoint
    from espnetv2.weights.keys import convert_official, to_official

__all__ = [
    "WeightEntry",
    "convert_official",
    "find_weights",
    "list_weights",
    "load_checkpoint",
    "save_checkpoint",
    "to_official",
]

_HOMES = {
    "WeightEntry": "catalogue",
    "convert_official": "keys",
    "find_weights": "catalogue",
    "list_weights": "catalogue",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "to_official": "keys",
}


def _resolve(name: str) -> object:
    # The catalogue must also work without torch, which the rest requires.
    if name in _HOMES:
        return getattr(import_module(f"espnetv2.weights.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'espnetv2.weights' has no attribute {name!r}")


if not TYPE_CHECKING:
    # As in the package itself.
    __getattr__ = _resolve
