"""Trained parameters: the catalogue, downloads, files, and the authors' parameter names."""

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
