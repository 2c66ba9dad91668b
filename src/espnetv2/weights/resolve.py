"""The checkpoint that a name stands for: one rule for models, prediction, export, benchmarks and training."""

from __future__ import annotations

from pathlib import Path

from espnetv2.errors import UserError
from espnetv2.models.registry import MODELS
from espnetv2.weights.catalogue import catalogue, find_weights
from espnetv2.weights.checkpoint import BEST, Checkpoint, load_checkpoint
from espnetv2.weights.download import fetch

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def resolve(weights: str | Path, *, model: str | None = None, weights_dir: str | Path | None = None) -> Checkpoint:
    """Load the weights that a name stands for.

    Args:
        weights: ``model.tag``; a model's name, for its default weights; a tag of ``model``; or a checkpoint file.
        model: the model whose tag it may be.
        weights_dir: folder that is searched first for released files.

    Raises:
        UserError: no such weights, or a file that cannot be read or downloaded.
    """
    text = str(weights)
    if not text or "://" in text:
        raise UserError(f'"{text}" does not name weights: give a tag, model.tag, or the path of a local file')
    if isinstance(weights, Path):
        return load_checkpoint(weights)
    if model is not None and f"{model}.{text}" in catalogue():
        return load_checkpoint(fetch(catalogue()[f"{model}.{text}"], weights_dir))
    if is_checkpoint(text):
        return load_checkpoint(text)
    if model is None or text.partition(".")[0] in MODELS:
        return load_checkpoint(fetch(find_weights(text), weights_dir))
    if "." in text or Path(text).exists():
        return load_checkpoint(text)
    return load_checkpoint(fetch(find_weights(f"{model}.{text}"), weights_dir))


def is_checkpoint(text: str) -> bool:
    """Whether this names a file and not a model or a model's weights, which take precedence over files of the same name."""
    if text in MODELS or text in catalogue():
        return False
    if "/" in text or "\\" in text or Path(text).suffix in CHECKPOINT_SUFFIXES:
        return True
    path = Path(text)
    return (path.is_file() or (path / BEST).is_file()) and text.partition(".")[0] not in MODELS
