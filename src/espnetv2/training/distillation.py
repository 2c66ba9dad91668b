"""Knowledge distillation: the outputs of a trained network, the teacher, are learnt in addition to the labels."""

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
    """A frozen network that predicts training batches.

    Args:
        network: trained, with ``info``.
        classes: number of its outputs that are classes.
        kernels: compute it with the package's own inference kernels.
    """

    def __init__(self, network: Network, classes: int, *, kernels: bool) -> None:
        super().__init__()
        network = network.requires_grad_(False).eval()
        self._network: nn.Module = accelerate(network) if kernels else network
        self._classes = classes

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch (N, 3, H, W), in the network's output shape."""
        logits: Tensor = self._network(images)
        return logits

    def divergence(self, images: Tensor, logits: Tensor, inside: Tensor | None = None) -> Parts:
        """The parts of the mean Kullback-Leibler divergence of a network's probabilities from the teacher's.

        Unlabelled pixels count, too: there the teacher is the only source to learn from. Source: Hinton, Vinyals and Dean,
        "Distilling the knowledge in a neural network", 2015, at temperature 1.

        Args:
            images: (N, 3, H, W), the input of both.
            logits: (N, C, H, W) or (N, C), of the network in training.
            inside: (N, H, W), true for pixels that are not padding; by default all of them.
        """
        theirs, ours = (self._comparable(answer) for answer in (self(images), logits))
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        counted = torch.ones_like(each) if inside is None else _thinned(inside).to(each.dtype)
        return Parts((each * counted).sum(), counted.sum())

    def _comparable(self, logits: Tensor) -> Tensor:
        """Log-probabilities over the classes."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))[:, : self._classes]
        return (_thinned(logits) if logits.ndim > 2 else logits).log_softmax(1)


def _thinned(pixels: Tensor) -> Tensor:
    """Every second pixel: the network computes no more than these, and interpolates the others."""
    return pixels[..., ::2, ::2]


def load_teacher(recipe: Recipe, classes: Sequence[str], weights_dir: Path | None, *, kernels: bool) -> Teacher | None:
    """The teacher that a recipe names, or None.

    Args:
        recipe: names it, and defines the preprocessing.
        classes: to learn.
        weights_dir: folder that is searched first for released files.
        kernels: compute it with the package's own inference kernels.

    Raises:
        UserError: there are no such weights, or they are for another task, other classes or other preprocessing.
    """
    if recipe.teacher is None:
        return None
    network = find_network(recipe.teacher, None, weights_dir)
    info = network.info
    assert info is not None
    if info.task != recipe.task:
        raise UserError(f"the teacher {recipe.teacher} is for {info.task}, but the recipe is for {recipe.task}: choose another")
    if tuple(info.classes) != tuple(classes):
        raise UserError(
            f"the teacher {recipe.teacher} has other classes ({', '.join(info.classes[:3])}, … instead of "
            f"{', '.join(classes[:3])}, …): choose weights that were trained on the same ones"
        )
    theirs, ours = info.preprocessing, recipe.preprocessing()
    if differing := ours.differing_values(theirs):
        name = differing[0]
        raise UserError(
            f"the teacher {recipe.teacher} has {name} {getattr(theirs, name)}, but the recipe has {getattr(ours, name)}: "
            "both get the same batch, so set the recipe's to the teacher's"
        )
    return Teacher(network, len(classes), kernels=kernels)
