"""Losses as sums, so that they can be normalised over several devices or images.

Cross-entropy is a sum and its divisor. The soft Jaccard loss is computed from three sums per class.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnetv2.acceleration import operators
from espnetv2.acceleration.operators import usable
from espnetv2.acceleration.sizes import MOST_CLASSES
from espnetv2.labels import IGNORE
from espnetv2.training.recipe import Loss

NO_INDEX = -100


class Parts(NamedTuple):
    """A weighted sum of losses, and the sum of the weights: their quotient is the mean."""

    total: Tensor
    weight: Tensor


def weights_from_shares(shares: npt.NDArray[np.float64]) -> list[float]:
    """Class weights 1/ln(1.10 + p) for each class's share p of the labelled pixels, as in the published recipes."""
    return [1 / math.log(1.10 + float(share)) for share in shares]


class CrossEntropy(nn.Module):
    """Cross-entropy with class weights, label smoothing and online hard example mining.

    Args:
        loss: the options.
        class_weights: one per output, or None.
        classes: how many of the outputs are classes, the first ones; None for all.
        kernels: compute it with the package's own kernels if they support it.
    """

    weights: Tensor | None

    def __init__(
        self, loss: Loss, class_weights: list[float] | None = None, *, classes: int | None = None, kernels: bool = False
    ) -> None:
        super().__init__()
        self.loss = loss
        self._classes = classes
        self._kernels = kernels and loss.label_smoothing == 0
        self.register_buffer("weights", None if class_weights is None else torch.tensor(class_weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Parts:
        """The parts of the mean loss.

        Args:
            logits: (N, C) or (N, C, H, W).
            target: class indices (N) or (N, H, W), 255 for none; for classification also probabilities (N, C).
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # In classification, 255 is a class like any other.
        no_class = IGNORE if target.ndim > 1 else NO_INDEX
        if target.is_floating_point():
            target = target.to(logits.dtype)
            each = self._each(logits, target, NO_INDEX)
            weight = target.sum() if self.weights is None else (target @ self.weights).sum()
            return Parts(each.sum(), weight)
        known = target != no_class
        weight = known.to(logits.dtype)
        if self.weights is not None:
            weight = torch.where(known, self.weights[target.where(known, 0)], 0.0)
        if self._kernels and target.ndim > 1 and usable(logits) and logits.shape[1] <= MOST_CLASSES:
            each = operators.cross_entropy(logits, target, no_class) * weight
        else:
            each = self._each(logits, target, no_class)
        if self.loss.ohem is not None:
            keep = self._hard(logits.detach(), target, known)
            each, weight = each * keep, weight * keep
        return Parts(each.sum(), weight.sum())

    def _each(self, logits: Tensor, target: Tensor, no_class: int) -> Tensor:
        each = F.cross_entropy(logits, target, weight=self.weights, reduction="none", ignore_index=no_class)
        if self.loss.label_smoothing == 0:
            return each
        # torch's own smoothing would also spread to the outputs that are no classes.
        spread = -logits.log_softmax(1)[:, : self._classes]
        if self.weights is not None:
            spread = spread * self.weights[: self._classes].view(-1, *(1 for _ in logits.shape[2:]))
        uniform = spread.mean(1)
        if not target.is_floating_point():
            uniform = uniform * (target != no_class)
        return torch.lerp(each, uniform, self.loss.label_smoothing)

    def _hard(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Mask of the pixels to learn from: those below the probability, and at least the hardest fraction."""
        probability = logits.softmax(1).gather(1, target.where(known, 0)[:, None])[:, 0]
        probability = probability.where(known, 2.0)
        count = int(known.sum())
        if count == 0:
            return known
        smallest = max(1, int(count * self.loss.ohem_keep))
        border = probability.flatten().kthvalue(smallest).values
        return known & (probability <= torch.clamp(border, min=self.loss.ohem or 0.0))


def soft_overlap(logits: Tensor, target: Tensor, *, kernels: bool = False) -> Tensor:
    """The sums for the soft Jaccard loss, over all labelled pixels.

    Args:
        logits: (N, C, H, W).
        target: class indices (N, H, W), 255 for none.
        kernels: compute it with the package's own kernels if they support it.

    Returns:
        (3, C), float32 or wider: for each class the sum of its probability over the pixels with its label, the sum of its
        probability over all labelled pixels, and the number of pixels with its label. Results of several batches may be added.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if kernels and usable(logits) and logits.shape[1] <= MOST_CLASSES:
        return operators.soft_overlap(logits, target, IGNORE)
    probability, known = logits.softmax(1), target != IGNORE
    labels = target[known]
    right = probability.gather(1, target.where(known, 0)[:, None])[:, 0][known]
    claimed = (probability * known[:, None]).sum((0, 2, 3))
    labelled = labels.bincount(minlength=len(claimed)).to(claimed.dtype)
    return torch.stack([torch.zeros_like(claimed).index_add(0, labels, right), claimed, labelled])


def jaccard_loss(overlap: Tensor) -> Tensor:
    """1 - intersection over union with probabilities for pixels, averaged over the classes that occur in the labels.

    It weights small and large classes equally, like the mean IoU that it approximates. Source: Rahman and Wang, "Optimizing
    intersection-over-union in deep neural networks for image segmentation", 2016.

    Args:
        overlap: (3, C), from ``soft_overlap``.
    """
    right, claimed, labelled = overlap
    there = labelled > 0
    each = 1 - right / torch.where(there, claimed + labelled - right, 1.0)
    mean: Tensor = (each * there).sum() / there.sum().clamp(min=1)
    return mean
