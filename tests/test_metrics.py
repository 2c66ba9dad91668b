from __future__ import annotations

import numpy as np
import pytest

from espnetv2.metrics import ClassificationMetrics, SegmentationMetrics


def test_a_case_worked_by_hand() -> None:
    """Class a: 2 hit, 1 missed, 1 false: 2/4. Class b: 1 hit, 1 missed, 1 false: 1/3. c never occurs; 255 is left out."""
    metrics = SegmentationMetrics(("a", "b", "c"))
    metrics.update(np.array([[0, 0, 0], [1, 1, 255]]), np.array([[0, 0, 1], [1, 0, 2]]))
    report = metrics.report()
    assert report["per_class_iou"] == {"a": 50.0, "b": pytest.approx(100 / 3), "c": None}
    assert report["miou"] == pytest.approx((50 + 100 / 3) / 2)
    assert report["pixel_accuracy"] == pytest.approx(60.0)
    assert report["absent"] == ["c"]
    assert report["images"] == 1


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    metrics = SegmentationMetrics(("a", "b"))
    metrics.update(np.array([[0, 0]]), np.array([[0, 1]]))
    assert metrics.report()["per_class_iou"] == {"a": 50.0, "b": 0.0}
    assert metrics.report()["absent"] == ["b"]
    assert metrics.summary()["miou"] == 25.0


def test_the_score_is_over_what_has_a_label() -> None:
    """Class a: 3 of 4. One pixel of c, which has no label, would else halve it."""
    metrics = SegmentationMetrics(("a", "b", "c"))
    metrics.update(np.array([[0, 0, 0, 0]]), np.array([[0, 0, 0, 2]]))
    assert metrics.score() == 75.0
    assert metrics.summary()["miou"] == 37.5
    assert SegmentationMetrics(("a", "b")).score() == 0.0


def test_a_perfect_prediction_scores_100_whatever_is_ignored() -> None:
    metrics = SegmentationMetrics(tuple("abcde"))
    labels = np.array([[0, 1, 2], [255, 255, 3]])
    metrics.update(labels, np.where(labels == 255, 4, labels))
    assert metrics.summary() == {"miou": 100.0, "pixel_accuracy": 100.0}


def test_it_is_the_mean_over_the_split_and_not_over_pictures() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, (6, 9, 9)), rng.integers(0, 4, (6, 9, 9))
    whole, parts = SegmentationMetrics(tuple("abcd")), [SegmentationMetrics(tuple("abcd")) for _ in range(2)]
    for index in range(6):
        whole.update(labels[index], predicted[index])
        parts[index % 2].update(labels[index], predicted[index])
    parts[0].merge(parts[1])
    assert parts[0].report() == whole.report()
    one = SegmentationMetrics(tuple("abcd"))
    one.update(labels.reshape(1, -1), predicted.reshape(1, -1))
    assert one.summary() == whole.summary()


def test_nothing_labelled() -> None:
    assert SegmentationMetrics(("a", "b")).summary() == {"miou": 0.0, "pixel_accuracy": 0.0}


def test_classification() -> None:
    metrics = ClassificationMetrics(tuple("abcdefg"))
    metrics.update(0, (0, 1, 2, 3, 4))
    metrics.update(1, (0, 1, 2, 3, 4))
    metrics.update(6, (0, 1, 2, 3, 4))
    other = ClassificationMetrics(tuple("abcdefg"))
    other.update(2, (2, 1, 0, 3, 4))
    metrics.merge(other)
    report = metrics.report()
    assert (report["top1"], report["top5"], report["images"]) == (50.0, 75.0, 4)
    assert report["per_class_accuracy"]["c"] == 100.0
    assert report["per_class_accuracy"]["d"] is None
    with pytest.raises(TypeError):
        metrics.merge(SegmentationMetrics(("a",)))
