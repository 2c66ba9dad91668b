from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from espnetv2 import postprocessing
from espnetv2.postprocessing import class_map, top_classes


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 24), (33, 47), (64, 96), (200, 3)])
def test_in_bands_it_is_the_same_as_at_once(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postprocessing, "BAND_VALUES", 500)
    logits = torch.randn(6, 16, 24)
    whole = F.interpolate(logits[None, :5], size=size, mode="bilinear", align_corners=False)[0]
    found = class_map(logits, 5, size)
    assert found.dtype == torch.uint8
    # Where two classes are as good as equal, rounding decides.
    chosen = whole.gather(0, found.long()[None])[0]
    assert torch.allclose(chosen, whole.max(0).values, atol=1e-4)


def test_outputs_that_are_no_class_never_win() -> None:
    logits = torch.zeros(3, 4, 4)
    logits[1] = 1.0
    logits[2] = 100.0
    assert set(class_map(logits, 2, (8, 8)).flatten().tolist()) == {1}
    assert top_classes(torch.tensor([0.0, 1.0, 100.0]), 2, 5)[0][0] == 1


def test_many_classes_do_not_overflow() -> None:
    logits = torch.zeros(300, 2, 2)
    logits[299] = 1.0
    assert set(class_map(logits, 300, (3, 3)).flatten().tolist()) == {299}


def test_probabilities_add_up() -> None:
    top = top_classes(torch.tensor([0.0, 2.0, 1.0]), 3, 3)
    assert [index for index, _ in top] == [1, 2, 0]
    assert sum(probability for _, probability in top) == pytest.approx(1.0)
    assert top[0][1] == pytest.approx(0.66524, abs=1e-5)
