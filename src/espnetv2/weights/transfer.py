"""Initialise a network from weights that were trained on another data set or task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from espnetv2.errors import UserError
from espnetv2.info import ModelInfo
from espnetv2.models.registry import model_spec
from espnetv2.weights.checkpoint import Checkpoint

_SHOWN = 5

if TYPE_CHECKING:
    from espnetv2.models.network import Network


def start_from(network: Network, info: ModelInfo, checkpoint: Checkpoint) -> str:
    """Copy every parameter with the same name and shape, which must include the whole encoder.

    If the classes differ, the last layer gets the rows of the classes with the same name; its output for all others is 0,
    since random rows, or those of other classes, would confidently predict the wrong class.

    Args:
        network: the target.
        info: its model, preprocessing, and the classes to learn.
        checkpoint: the source; classification weights also work for segmentation.

    Returns:
        a line that says what was copied, and which preprocessing differs.

    Raises:
        UserError: the encoder has a different width.
    """
    own, before = network.state_dict(), checkpoint.info
    same = {n: t for n, t in checkpoint.state_dict.items() if n in own and own[n].shape == t.shape}
    last: dict[str, Tensor] = {}
    if before.classes != info.classes or before.outputs != info.outputs:
        layer = model_spec(info.model).output_layer
        for name in (f"{layer}.weight", f"{layer}.bias"):
            same.pop(name, None)
            theirs = checkpoint.state_dict.get(name)
            if theirs is not None and theirs.shape[1:] == own[name].shape[1:]:
                last[name] = _rows_by_name(own[name], info.classes, theirs, before.classes)
    encoder = {name for name in own if name.startswith("encoder.")}
    if not encoder <= same.keys():
        raise UserError(
            f"{checkpoint.path} contains {checkpoint.spec.name}, whose encoder does not fit {info.model}: use the same width"
        )
    network.load_state_dict(own | same | last)
    beyond = len(same) - len(encoder)
    line = f"the encoder and {beyond} of {len(own) - len(encoder)} other tensors"
    if last:
        known = [name for name in info.classes if name in before.classes]
        line += f"; the last layer's rows for {_listed(known)}" if known else "; no class has the same name"
    if other := info.preprocessing.differing_values(before.preprocessing):
        settings = ", ".join(f"{name} {getattr(before.preprocessing, name)}" for name in other)
        line += f"; trained with {settings}: the network learns faster if the recipe sets the same"
    return line


def _rows_by_name(own: Tensor, classes: Sequence[str], theirs: Tensor, before: Sequence[str]) -> Tensor:
    """The rows of the last layer's weight, or the values of its bias: copied for classes with the same name, else 0."""
    rows = torch.zeros_like(own)
    for place, name in enumerate(classes):
        if name in before:
            rows[place] = theirs[before.index(name)]
    return rows


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
