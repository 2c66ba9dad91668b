from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from espnetv2.training.losses import CrossEntropy, jaccard_loss, soft_overlap, weights_from_shares
from espnetv2.training.recipe import Loss


def test_class_weights_from_data() -> None:
    assert weights_from_shares(np.array([0.0, 0.5])) == [1 / math.log(1.10), 1 / math.log(1.60)]


def test_the_parts_make_torchs_mean() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 5, 7, 6), torch.randint(0, 5, (2, 7, 6))
    target[0, :3] = 255
    weights = [0.5, 1.0, 2.0, 3.0, 0.0]
    for given in (None, weights):
        total, weight = CrossEntropy(Loss(label_smoothing=0.1), given)(logits, target)
        tensor = None if given is None else torch.tensor(given)
        expected = F.cross_entropy(logits, target, tensor, ignore_index=255, label_smoothing=0.1)
        assert total / weight == pytest.approx(float(expected), rel=1e-5)


def test_smoothing_spreads_over_classes_alone() -> None:
    """Two classes and an output that is none, with probabilities 1/2, 1/4 and 1/4; half of the target is spread."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    total, weight = CrossEntropy(Loss(label_smoothing=0.5), [2.0, 1.0, 9.0], classes=2)(logits, torch.tensor([0]))
    right, other = 2 * math.log(2), math.log(4)
    assert float(total) == pytest.approx(0.5 * right + 0.5 * (right + other) / 2)
    assert weight == 2
    mixed, _ = CrossEntropy(Loss(label_smoothing=0.5), [2.0, 1.0, 9.0], classes=2)(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert float(mixed) == pytest.approx(float(total))


def test_two_halves_make_the_whole() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    target[:1, :4] = 255
    criterion = CrossEntropy(Loss(), [1.0, 2.0, 3.0])
    whole = criterion(logits, target)
    halves = [criterion(logits[part], target[part]) for part in (slice(0, 2), slice(2, 4))]
    assert sum(float(half.total) for half in halves) == pytest.approx(float(whole.total), rel=1e-5)
    assert sum(float(half.weight) for half in halves) == pytest.approx(float(whole.weight), rel=1e-5)


def test_hard_examples_are_kept() -> None:
    """Four pixels with probability 0.9, 0.8, 0.6 and 0.2 of the true class, one without a label."""
    probabilities = torch.tensor([0.9, 0.8, 0.6, 0.2, 0.5])
    logits = torch.stack([probabilities, 1 - probabilities]).log()[None, :, None]
    target = torch.tensor([[[0, 0, 0, 0, 255]]])
    losses = -probabilities.log()
    total, weight = CrossEntropy(Loss(ohem=0.7, ohem_keep=0.1))(logits, target)
    assert float(total) == pytest.approx(float(losses[2] + losses[3]))
    assert weight == 2
    total, weight = CrossEntropy(Loss(ohem=0.1, ohem_keep=0.75))(logits, target)
    assert float(total) == pytest.approx(float(losses[1:4].sum()))
    assert weight == 3


def test_class_255_of_a_classification_is_a_class() -> None:
    total, weight = CrossEntropy(Loss())(torch.zeros(2, 1000), torch.tensor([255, 3]))
    assert float(total) == pytest.approx(2 * math.log(1000), rel=1e-5)
    assert weight == 2


def test_nothing_labelled_gives_zero() -> None:
    total, weight = CrossEntropy(Loss(ohem=0.7))(torch.randn(1, 2, 3, 3), torch.full((1, 3, 3), 255))
    assert (float(total), float(weight)) == (0, 0)


def test_mixed_labels() -> None:
    logits, target = torch.randn(3, 4), torch.rand(3, 4).softmax(1)
    total, weight = CrossEntropy(Loss())(logits, target)
    assert total / weight == pytest.approx(float(F.cross_entropy(logits, target)), rel=1e-5)


def test_mixed_labels_of_a_network_in_double_precision() -> None:
    logits, target = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4).softmax(1)
    criterion = CrossEntropy(Loss(), [1.0, 2.0, 0.5, 1.0]).double()
    for one, other in zip(criterion(logits, target), criterion(logits, target.double()), strict=True):
        assert float(one) == float(other)


def test_class_weights_count_for_mixed_labels_as_for_others() -> None:
    logits, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    criterion = CrossEntropy(Loss(), [1.0, 2.0, 0.5])
    for one, other in zip(criterion(logits, target), criterion(logits, F.one_hot(target, 3).float()), strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-5)


@pytest.mark.parametrize("kernels", [False, True])
def test_the_jaccard_loss_by_hand(kernels: bool) -> None:
    """Two pixels of class 0 (p = 0.8 and 0.6), one of class 1 (p = 0.9 for it), one without a label; class 2 is nowhere."""
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4]])
    logits, target = probabilities.log().T[None, :, None], torch.tensor([[[0, 0, 1, 255]]])
    overlap = soft_overlap(logits, target, kernels=kernels)
    torch.testing.assert_close(overlap, torch.tensor([[1.4, 0.9, 0.0], [1.5, 1.3, 0.2], [2.0, 1.0, 0.0]]))
    assert float(jaccard_loss(overlap)) == pytest.approx(((1 - 1.4 / 2.1) + (1 - 0.9 / 1.4)) / 2)


def test_the_jaccard_loss_of_answers_that_are_certain_is_one_minus_the_mean_iou() -> None:
    torch.manual_seed(0)
    target, answer = torch.randint(0, 4, (2, 9, 7)), torch.randint(0, 4, (2, 9, 7))
    overlap = soft_overlap(1e3 * F.one_hot(answer, 4).permute(0, 3, 1, 2).float(), target)
    expected = [float(((answer == c) & (target == c)).sum() / ((answer == c) | (target == c)).sum()) for c in range(4)]
    assert float(jaccard_loss(overlap)) == pytest.approx(1 - np.mean(expected))


def test_the_gradient_of_the_jaccard_loss() -> None:
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 3, 4))
    target[0, 0] = 255
    logits = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: jaccard_loss(soft_overlap(given, target)), logits)


def test_the_jaccard_loss_of_nothing_labelled_is_zero() -> None:
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = jaccard_loss(soft_overlap(logits, torch.full((1, 3, 3), 255)))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert not gradient.any()
