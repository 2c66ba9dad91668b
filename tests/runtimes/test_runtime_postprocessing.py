"""Without torch the answers are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espnetv2 import postprocessing as with_torch
from espnetv2.runtimes.postprocessing import class_map, resized_classes, top_classes


@pytest.mark.parametrize("size", [(40, 60), (20, 30), (133, 71), (7, 200), (1, 1)])
@pytest.mark.parametrize("classes", [1, 5, 300])
def test_class_maps(size: tuple[int, int], classes: int) -> None:
    logits = np.random.default_rng(0).normal(size=(classes + 1, 20, 30)).astype(np.float32)
    logits[classes] = 100
    found = class_map(logits, classes, size)
    expected = with_torch.class_map(torch.from_numpy(logits), classes, size).numpy()
    assert found.dtype == (np.uint8 if classes <= 256 else np.uint16)
    # Where two classes are equal to the last digit, rounding decides.
    assert (found == expected).mean() > 0.999


def test_of_equals_the_first_wins() -> None:
    assert class_map(np.zeros((4, 3, 3), np.float32), 4, (5, 6)).max() == 0


def test_decided_maps_keep_their_pixels() -> None:
    small = np.array([[1, 2], [3, 4]], np.uint8)
    assert resized_classes(small, (4, 6)).tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2
    assert resized_classes(small.astype(np.int32), (1, 1)).dtype == np.uint16


def test_rankings() -> None:
    logits = np.random.default_rng(0).normal(size=9).astype(np.float32)
    found, expected = top_classes(logits, 8, 3), with_torch.top_classes(torch.from_numpy(logits), 8, 3)
    assert [index for index, _ in found] == [index for index, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], rtol=1e-5)
