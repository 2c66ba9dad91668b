"""Mixup and CutMix: mixtures of pairs of images and of their labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, rand
from torchvision.transforms import v2

from espnetv2.training.recipe import Augmentation


def mix(images: Tensor, labels: Tensor, classes: int, options: Augmentation) -> tuple[Tensor, Tensor]:
    """Mix a batch (N, 3, H, W) and its labels (N), which become probabilities (N, classes) if any mixing is enabled.

    Randomness comes from torch's global generator.
    """
    ways: list[v2.Transform] = []
    if options.mixup:
        ways.append(v2.MixUp(alpha=options.mixup, num_classes=classes))
    if options.cutmix:
        ways.append(v2.CutMix(alpha=options.cutmix, num_classes=classes))
    if not ways:
        return images, labels
    chosen = ways[int(rand(()) * len(ways))]
    mixed, probabilities = chosen(images, labels)
    return mixed, probabilities if probabilities.is_floating_point() else F.one_hot(probabilities, classes).float()
