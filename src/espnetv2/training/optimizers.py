"""Which parameters are trained at which rate, and which normalisation is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from espnetv2.training.recipe import Recipe

if TYPE_CHECKING:
    from espnetv2.models.network import Network


def normalisation_to_keep(network: Network, recipe: Recipe) -> list[nn.Module]:
    """The batch normalisation layers whose statistics and parameters are frozen, synchronised or not."""
    if recipe.freeze_batch_norm == "all":
        kept: nn.Module | None = network
    else:
        kept = network.encoder if recipe.freeze_batch_norm == "encoder" or recipe.encoder_lr == 0 else None
    return [] if kept is None else [layer for layer in kept.modules() if isinstance(layer, _BatchNorm)]


def freeze(network: Network, recipe: Recipe) -> Network:
    """Exclude from training what the recipe freezes; returns the same network."""
    if recipe.encoder_lr == 0:
        network.encoder.requires_grad_(False)
    for layer in normalisation_to_keep(network, recipe):
        layer.requires_grad_(False)
    return network


def build_optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """Optimizer with groups for the encoder and the rest, each split by weight decay; ``factor`` scales a group's rate."""
    options = recipe.optimizer
    groups = []
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    for in_encoder, factor in ((True, recipe.encoder_lr), (False, recipe.decoder_lr)):
        for decays in (True, False):
            chosen = [
                parameter
                for parameter in network.parameters()
                if parameter.requires_grad
                and (id(parameter) in encoder) == in_encoder
                and (options.decay_all or parameter.ndim > 1) == decays
            ]
            if chosen:
                decay = options.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "factor": factor, "lr": recipe.lr * factor})
    if options.name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov)
    kind = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=options.betas)
