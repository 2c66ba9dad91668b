"""Start a network from weights that were trained on something else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.errors import UserError
from espnetv2.factory import is_model_name
from espnetv2.info import ModelInfo
from espnetv2.weights.catalogue import catalogue, find_weights
from espnetv2.weights.checkpoint import Checkpoint, load_checkpoint
from espnetv2.weights.download import fetch

_SHOWN = 3

if TYPE_CHECKING:
    from espnetv2.models.network import Network


def start_from(network: Network, info: ModelInfo, weights: str, weights_dir: Path | None) -> str:
    """Copy every parameter that has the same name and shape: at least the whole encoder.

    Args:
        network: copied into.
        info: which model it is, what it is going to learn and how it is going to see pictures.
        weights: ``model.tag``, a tag of the model, or a checkpoint file; classification weights will do for segmentation.
        weights_dir: folder in which released files are looked for first.

    Returns:
        a line that says what was copied, and what is unlike before.

    Raises:
        UserError: no such weights, or their encoder is of another width.
    """
    checkpoint = _load(info.model, weights, weights_dir)
    own = network.state_dict()
    same = {n: t for n, t in checkpoint.state_dict.items() if n in own and own[n].shape == t.shape}
    encoder = {name for name in own if name.startswith("encoder.")}
    if not encoder <= same.keys():
        raise UserError(
            f"{weights} holds {checkpoint.spec.name}, whose encoder does not fit {info.model}: choose the same width"
        )
    network.load_state_dict(own | same)
    beyond = len(same) - len(encoder)
    line = f"starting from {weights}: the encoder and {beyond} of {len(own) - len(encoder)} other tensors"
    before = checkpoint.info
    if len(same) == len(own) and before.classes != info.classes:
        line += f"; the last layer, too, though its classes were others ({', '.join(before.classes[:_SHOWN])}, …)"
    if other := info.preprocessing.differing_values(before.preprocessing):
        settings = ", ".join(f"{name} {getattr(before.preprocessing, name)}" for name in other)
        line += f"; they have seen pictures with {settings}, and learn more easily if the recipe has the same"
    return line


def _load(model: str, weights: str, weights_dir: Path | None) -> Checkpoint:
    if is_model_name(weights):
        return load_checkpoint(fetch(find_weights(weights), weights_dir))
    if f"{model}.{weights}" in catalogue():
        return load_checkpoint(fetch(catalogue()[f"{model}.{weights}"], weights_dir))
    return load_checkpoint(weights)
