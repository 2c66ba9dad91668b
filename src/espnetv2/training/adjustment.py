"""Post-hoc logit adjustment: one shift per class, fitted for the best mean IoU on training images.

Training minimises a loss, not the errors that the mean IoU counts; with class weights, rare classes are predicted too often. A
shift of each class's logit, which becomes part of the last bias, corrects that. Source of the idea, for the accuracy of
classification: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import TypeIs

from espnetv2.data.dataset import SegmentationData, spread
from espnetv2.evaluation.evaluate import labelled_outputs
from espnetv2.inference.predictor import Predictor
from espnetv2.labels import IGNORE
from espnetv2.metrics import SegmentationMetrics
from espnetv2.models.network import Network
from espnetv2.models.segmentation import SegmentationModel

IMAGES, PIXELS = 1000, 5000
"""At most as many training images are used, and pixels of each."""
MOST_LOGITS = 40_000_000
LARGEST_SHIFT, STEP = 3.0, 0.05
SWEEPS = 20
PARTS = (0.25, 0.5, 0.75, 1.0)
"""A network is surer on the images that it was trained on, so that a part of the shifts can be better for others."""


def has_class_bias(network: Network) -> TypeIs[SegmentationModel]:
    """Whether a network can be adjusted: a segmentation network with the decoder "pyramid"."""
    return isinstance(network, SegmentationModel) and network.class_bias is not None


def adjust_logits(
    network: SegmentationModel,
    train: SegmentationData,
    val: SegmentationData,
    *,
    device: str,
    seed: int,
    on_image: Callable[[], None] = lambda: None,
) -> SegmentationMetrics:
    """Add shifts to the network's last bias: the best ones on training images, or the part of them that is best on validation.

    Args:
        network: one that ``has_class_bias``, with a description.
        train: of which random pixels of at most 1000 images are used.
        val: all of it is used.
        device: to predict on.
        seed: of the choice of pixels.
        on_image: called after each image.

    Returns:
        metrics of the adjusted network on ``val``.

    Raises:
        UserError: an image or mask cannot be decoded.
    """
    bias = network.class_bias
    assert bias is not None
    predictor = Predictor(network, device=device)
    shifts = best_shifts(*_sample(predictor, train, seed, on_image))
    shifts = F.pad(shifts, (0, len(bias) - len(shifts))).to(bias)
    found = [SegmentationMetrics(val.labels.classes) for _ in PARTS]
    for mask, output in labelled_outputs(predictor, val, range(len(val))):
        for part, metrics in zip(PARTS, found, strict=True):
            shifted = output + (part * shifts).to(output)[:, None, None]
            metrics.update(mask, predictor.class_map(shifted, (mask.shape[0], mask.shape[1])))
        on_image()
    best = max(range(len(PARTS)), key=lambda index: found[index].score())
    with torch.no_grad():
        bias += PARTS[best] * shifts
    return found[best]


def _sample(predictor: Predictor, data: SegmentationData, seed: int, on_image: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """Logits (C, P) of random labelled pixels, and their classes (P)."""
    classes = len(data.labels.classes)
    chosen = spread(IMAGES, len(data))
    pixels = max(1, min(PIXELS, MOST_LOGITS // (classes * len(chosen))))
    random = torch.Generator().manual_seed(seed)
    logits, labels = [torch.zeros(classes, 0)], [torch.zeros(0, dtype=torch.int64)]
    for decoded, output in labelled_outputs(predictor, data, chosen):
        mask = torch.from_numpy(decoded)
        known = (mask != IGNORE).nonzero()
        if len(known):
            taken = known[torch.randint(len(known), (pixels,), generator=random)]
            logits.append(logits_at(output[:classes], taken, mask.shape))
            labels.append(mask[taken[:, 0], taken[:, 1]].long())
        on_image()
    return torch.cat(logits, 1), torch.cat(labels)


def logits_at(output: Tensor, places: Tensor, size: tuple[int, ...]) -> Tensor:
    """Logits (C, P) of pixels (P, 2) of an output (C, h, w) that is enlarged to ``size``, bilinearly."""
    centres = (places.flip(1) + 0.5) / torch.tensor([size[1], size[0]]) * 2 - 1
    grid = centres.to(output)[None, None]
    return F.grid_sample(output[None], grid, padding_mode="border", align_corners=False)[0, :, 0].cpu()


def best_shifts(logits: Tensor, labels: Tensor) -> Tensor:
    """The shift of each class's logit (C) for the best mean IoU; they add up to 0.

    One class after the other gets the best of all shifts up to ±3, given those of the others, until none changes.

    Args:
        logits: (C, P).
        labels: classes (P).
    """
    shifts = torch.zeros(len(logits), dtype=logits.dtype)
    for _ in range(SWEEPS):
        before = shifts.clone()
        for index in range(len(shifts)):
            shifts[index] = _best_shift(logits, labels, shifts, index)
        if torch.equal(before, shifts):
            break
    return shifts - shifts.mean()


def _best_shift(logits: Tensor, labels: Tensor, shifts: Tensor, index: int) -> Tensor:
    """The best shift of one class, given those of the others; the present one if none is better."""
    classes = len(logits)
    tried = torch.arange(-LARGEST_SHIFT, LARGEST_SHIFT + STEP / 2, STEP, dtype=logits.dtype)
    others = logits + shifts[:, None]
    others[index] = -torch.inf
    highest, rival = others.max(0)
    # A pixel goes from its rival to this class at the first shift above its margin.
    first = torch.searchsorted(tried, highest - logits[index], right=True)

    def moved(which: Tensor) -> Tensor:
        counts = (rival[which] * (len(tried) + 1) + first[which]).bincount(minlength=classes * (len(tried) + 1))
        return counts.view(classes, -1).cumsum(1)[:, :-1].double()

    def at_rival(which: Tensor) -> Tensor:
        return rival[which].bincount(minlength=classes).double()[:, None]

    every, right = torch.ones_like(labels, dtype=torch.bool), labels == rival
    moves = moved(every)
    claimed, hits = at_rival(every) - moves, at_rival(right) - moved(right)
    claimed[index], hits[index] = moves.sum(0), moved(labels == index).sum(0)
    labelled = labels.bincount(minlength=classes).double()[:, None]
    iou = hits / (labelled + claimed - hits).clamp(min=1)
    sums = iou[labelled[:, 0] > 0].sum(0)
    best, present = sums.argmax(), (tried - shifts[index]).abs().argmin()
    return tried[best] if sums[best] > sums[present] else shifts[index]
