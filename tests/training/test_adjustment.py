from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from espnetv2 import Predictor, create_model
from espnetv2.data.dataset import SegmentationData
from espnetv2.data.layouts import open_dataset
from espnetv2.evaluation.evaluate import evaluate
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.training.adjustment import adjust_logits, best_shifts, has_class_bias, logits_at
from small_runs import MODEL


def mean_iou(logits: Tensor, labels: Tensor) -> float:
    predicted = logits.argmax(0)
    found = [index for index in range(len(logits)) if bool((labels == index).any())]
    parts = [((predicted == i) & (labels == i)).sum() / ((predicted == i) | (labels == i)).sum() for i in found]
    return float(torch.stack(parts).mean())


def test_a_class_that_is_predicted_too_often() -> None:
    # Six pixels of class 0 and two of class 1, of which the network takes four for class 1.
    margin = torch.tensor([2.0, 2.0, 2.0, 2.0, -0.53, -0.53, -0.93, -1.03])
    logits, labels = torch.stack([margin, torch.zeros(8)]), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    assert mean_iou(logits, labels) == pytest.approx((4 / 6 + 2 / 4) / 2)
    shifts = best_shifts(logits, labels)
    assert mean_iou(logits + shifts[:, None], labels) == 1
    assert 0.53 < float(shifts[0] - shifts[1]) < 0.93
    assert float(shifts.sum()) == pytest.approx(0, abs=1e-6)


def test_no_single_change_is_better() -> None:
    torch.manual_seed(3)
    labels = torch.randint(4, (300,)) % 3
    logits = torch.randn(4, 300) + 1.5 * F.one_hot(labels, 4).T + torch.tensor([0.0, 1.0, -1.0, 0.5])[:, None]
    shifts = best_shifts(logits, labels)
    best = mean_iou(logits + shifts[:, None], labels)
    assert best > mean_iou(logits, labels) + 0.05
    for index, change in product(range(4), (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)):
        other = shifts.clone()
        other[index] += change
        # A step of the search is 0.05, from another origin.
        assert mean_iou(logits + other[:, None], labels) <= best + 0.01


def test_perfect_logits_stay() -> None:
    labels = torch.arange(3).repeat(5)
    assert not best_shifts(9.0 * F.one_hot(labels, 3).T, labels).any()


def test_logits_of_single_pixels_are_those_of_the_enlarged_output() -> None:
    output = torch.randn(2, 5, 7)
    whole = F.interpolate(output[None], (11, 9), mode="bilinear")[0]
    places = torch.cartesian_prod(torch.arange(11), torch.arange(9))
    torch.testing.assert_close(logits_at(output, places, (11, 9)).view(2, 11, 9), whole)


def test_shifts_undo_a_bias(shapes: Path) -> None:
    """A network that mostly predicts one class has a better mean IoU with the shifts in its last bias."""
    data = open_dataset("auto", shapes, "train")
    assert isinstance(data, SegmentationData)
    torch.manual_seed(0)
    network = create_model(MODEL, classes=list(data.labels.classes))
    assert has_class_bias(network)
    assert network.info is not None
    assert network.class_bias is not None
    network.info = network.info.model_copy(update={"preprocessing": network.info.preprocessing.resized(32, 48)})
    assert isinstance(network.decoder, PyramidDecoder)
    torch.nn.init.normal_(network.decoder.pool1.expand.weight, std=0.1)
    with torch.no_grad():
        network.class_bias[1] += 1.0
    before = evaluate(Predictor(network, device="cpu"), data).score()
    seen: list[None] = []
    metrics = adjust_logits(network, data, data, device="cpu", seed=1882, on_image=lambda: seen.append(None))
    after = evaluate(Predictor(network, device="cpu"), data)
    assert after.score() > before
    assert after.report() == metrics.report()
    assert len(seen) == 2 * len(data)
