"""Make a model by name, with or without trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.errors import UserError
from espnetv2.models.registry import MODELS, model_spec
from espnetv2.weights.catalogue import catalogue, find_weights
from espnetv2.weights.checkpoint import Checkpoint, load_checkpoint
from espnetv2.weights.download import fetch

if TYPE_CHECKING:
    from espnetv2.models.network import Network

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    weights_dir: str | Path | None = None,
) -> Network:
    """Build a model.

    Args:
        name: a model's name (``espnetv2.list_models()``), or ``model.tag`` for the model with those weights.
        weights: a tag of the catalogue (``espnetv2.list_weights(name)``), or a checkpoint file, own or official.
            Without it the parameters are random, initialised as published.
        num_classes: number of outputs. With ``weights`` it need not be given, and must agree if it is.
        weights_dir: folder in which released files are looked for first, before the one that the variable
            ESPNETV2_WEIGHTS names, the cache and the network.

    Returns:
        The network, float32 on the CPU: in evaluation mode where it has trained weights, else in training mode. Its
        attribute ``info`` says what the weights are (None without).

    Raises:
        UserError: unknown model, tag or file; weights of another model or class count; a download that failed.
    """
    if is_checkpoint(name):
        raise UserError(f'"{name}" is a file, not a model: give the model\'s name, and the file as its weights')
    base, _, tag = name.partition(".")
    spec = model_spec(base)
    if tag and weights is not None:
        raise UserError(f'weights are named twice, "{tag}" in the model\'s name and "{weights}": name them once')
    if weights is None and not tag:
        return spec.build(num_classes)
    checkpoint = _checkpoint(base, tag or weights or "", weights_dir)
    if checkpoint.spec != spec:
        raise UserError(f"{checkpoint.path} holds weights of {checkpoint.spec.name}, not of {base}: name that model")
    outputs = checkpoint.info.outputs
    if num_classes not in (None, outputs):
        raise UserError(
            f"{checkpoint.path} has {outputs} outputs, not {num_classes}: leave the class count out, "
            "or start training from these weights to get another"
        )
    return load_model(checkpoint)


def find_network(model: str | Path, weights: str | Path | None, weights_dir: str | Path | None) -> Network:
    """The network that a name or a checkpoint file stands for.

    Raises:
        UserError: unknown model or weights.
    """
    text = str(model)
    if weights is None and is_checkpoint(text):
        return load_model(load_checkpoint(text))
    if weights is None:
        return create_model(find_weights(text).name, weights_dir=weights_dir)
    return create_model(text, weights=weights, weights_dir=weights_dir)


def load_model(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, in evaluation mode.

    Raises:
        UserError: parameters are missing or have another shape.
    """
    model = checkpoint.spec.build(checkpoint.info.outputs)
    try:
        model.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path} is no complete {checkpoint.spec.name}: {_first_problem(error)}") from error
    model.info = checkpoint.info
    return model.eval()


def _checkpoint(model: str, weights: str | Path, weights_dir: str | Path | None) -> Checkpoint:
    if f"{model}.{weights}" in catalogue():
        entry = find_weights(f"{model}.{weights}")
        return load_checkpoint(fetch(entry, weights_dir))
    text = str(weights)
    if isinstance(weights, Path) or Path(text).exists() or "/" in text or "\\" in text or "." in text:
        return load_checkpoint(text)
    entry = find_weights(f"{model}.{text}")
    return load_checkpoint(fetch(entry, weights_dir))


def _first_problem(error: RuntimeError) -> str:
    lines = str(error).splitlines()
    return lines[1].strip() if len(lines) > 1 else lines[0]


def is_checkpoint(text: str) -> bool:
    """Whether this names a file, and neither a model nor a model's weights, which go before files of the same name."""
    if text in MODELS or text in catalogue():
        return False
    if "/" in text or "\\" in text or Path(text).suffix in CHECKPOINT_SUFFIXES:
        return True
    return Path(text).is_file() and text.partition(".")[0] not in MODELS
