"""Knowledge distillation: a trained network, the teacher, whose answers are learnt beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnetv2.acceleration.inference import accelerate
from espnetv2.errors import UserError
from espnetv2.factory import find_network
from espnetv2.models.network import Network
from espnetv2.training.losses import Parts
from espnetv2.training.recipe import Recipe


class Teacher(nn.Module):
    """A network that says what a training batch shows. It never learns.

    Args:
        network: trained, with ``info``.
        classes: how many of its outputs are classes.
        kernels: let the package's own kernels for inference compute it.
    """

    def __init__(self, network: Network, classes: int, *, kernels: bool) -> None:
        super().__init__()
        network = network.requires_grad_(False).eval()
        self._network: nn.Module = accelerate(network) if kernels else network
        self._classes = classes

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch (N, 3, H, W), of the network's own shape."""
        logits: Tensor = self._network(images)
        return logits

    def divergence(self, images: Tensor, logits: Tensor, inside: Tensor | None = None) -> Parts:
        """The parts of the mean Kullback-Leibler divergence of a network's probabilities from the teacher's.

        Unlabelled pixels count, too: there the teacher is all there is to learn from. Source: Hinton, Vinyals and Dean,
        "Distilling the knowledge in a neural network", 2015, at temperature 1.

        Args:
            images: (N, 3, H, W), what both have seen.
            logits: (N, C, H, W) or (N, C), of the network that learns.
            inside: (N, H, W), where there is a picture at all; by default everywhere.
        """
        theirs, ours = (self._comparable(answer) for answer in (self(images), logits))
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        counted = torch.ones_like(each) if inside is None else _thinned(inside).to(each.dtype)
        return Parts((each * counted).sum(), counted.sum())

    def _comparable(self, logits: Tensor) -> Tensor:
        """Logarithms of probabilities among the classes."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))[:, : self._classes]
        return (_thinned(logits) if logits.ndim > 2 else logits).log_softmax(1)


def _thinned(pixels: Tensor) -> Tensor:
    """Every second pixel: a network computes no more of them, the others lie between."""
    return pixels[..., ::2, ::2]


def load_teacher(recipe: Recipe, classes: Sequence[str], weights_dir: Path | None, *, kernels: bool) -> Teacher | None:
    """The teacher that a recipe names, or None.

    Args:
        recipe: names it, and says how pictures come.
        classes: what is to be learnt.
        weights_dir: folder in which released files are looked for first.
        kernels: let the package's own kernels for inference compute it.

    Raises:
        UserError: no such weights, or they are for other classes or for pictures prepared in another way.
    """
    if recipe.teacher is None:
        return None
    network = find_network(recipe.teacher, None, weights_dir)
    info = network.info
    assert info is not None
    if info.task != recipe.task:
        raise UserError(f"the teacher {recipe.teacher} is for {info.task}, but the recipe is for {recipe.task}: name another")
    if tuple(info.classes) != tuple(classes):
        raise UserError(
            f"the teacher {recipe.teacher} knows other classes ({', '.join(info.classes[:3])}, … against "
            f"{', '.join(classes[:3])}, …): name weights that were trained on the same ones"
        )
    theirs, ours = info.preprocessing, recipe.preprocessing()
    if differing := ours.differing_values(theirs):
        name = differing[0]
        raise UserError(
            f"the teacher {recipe.teacher} has {name} {getattr(theirs, name)}, the recipe {getattr(ours, name)}: "
            "both see the same batch, so set the recipe's to the teacher's"
        )
    return Teacher(network, len(classes), kernels=kernels)
