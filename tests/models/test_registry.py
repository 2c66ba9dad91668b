from __future__ import annotations

import pytest

from espnetv2.errors import UserError
from espnetv2.models.encoder import widths
from espnetv2.models.registry import list_models, model_spec


def test_names() -> None:
    assert list_models()[:6] == [f"espnetv2_s{scale}" for scale in ("0_5", "1_0", "1_25", "1_5", "1_75", "2_0")]
    assert "espnetv2_seg_s1_25" in list_models()
    assert "espnetv2_seg_psp_s2_0" in list_models()
    assert len(list_models()) == 16


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match='no model "espnetv2_seg_s20": did you mean "espnetv2_seg_s2_0"'):
        model_spec("espnetv2_seg_s20")


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (0.5, (16, 32, 64, 128, 256, 1024)),
        (1.0, (32, 64, 128, 256, 512, 1024)),
        (1.25, (32, 80, 160, 320, 640, 1024)),
        (1.5, (32, 96, 192, 384, 768, 1024)),
        (1.75, (32, 112, 224, 448, 896, 1152)),
        (2.0, (32, 128, 256, 512, 1024, 1280)),
    ],
)
def test_widths_are_the_published_ones(scale: float, expected: tuple[int, ...]) -> None:
    assert widths(scale) == expected
