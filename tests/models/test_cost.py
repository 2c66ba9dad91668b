from __future__ import annotations

import pytest

from espnetv2.models.cost import multiply_accumulates, parameters, published_parameters
from espnetv2.models.registry import MODELS, model_spec

# Published parameters and multiply-accumulates in millions, at 224x224 or 512x1024, with 1000 or 20 outputs.
PUBLISHED = {
    "espnetv2_s0_5": (1_241_332, 28.38),
    "espnetv2_s1_0": (1_670_072, 85.72),
    "espnetv2_s1_25": (1_965_440, 123.40),
    "espnetv2_s1_5": (2_314_856, 168.60),
    "espnetv2_s1_75": (2_875_376, 222.74),
    "espnetv2_s2_0": (3_498_136, 284.81),
    "espnetv2_seg_s0_5": (80_342, 597.56),
    "espnetv2_seg_s1_0": (234_010, 1086.59),
    "espnetv2_seg_s1_5": (468_362, 1714.57),
    "espnetv2_seg_s2_0": (789_242, 2699.05),
    "espnetv2_seg_psp_s0_5": (99_418, 564),
    "espnetv2_seg_psp_s1_0": (340_782, 1689),
    "espnetv2_seg_psp_s1_5": (725_166, 3361),
    "espnetv2_seg_psp_s2_0": (1_253_038, 5671),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    spec = MODELS[name]
    model = spec.build()
    expected_parameters, expected_macs = PUBLISHED[name]
    assert published_parameters(model) == expected_parameters
    digits = 2 if isinstance(expected_macs, float) else 0
    assert round(multiply_accumulates(model, *spec.reference_size) / 1e6, digits) == expected_macs


@pytest.mark.parametrize(("scale", "expected"), [("0_5", 80_353), ("1_0", 234_021), ("1_5", 468_373), ("2_0", 789_253)])
def test_counts_with_the_classes_of_voc(scale: str, expected: int) -> None:
    assert published_parameters(model_spec(f"espnetv2_seg_s{scale}").build(21)) == expected


def test_parameters_that_cannot_learn_are_not_owned() -> None:
    model = model_spec("espnetv2_s0_5").build()
    # The last PReLU of four strided units, and a shortcut of two convolutions with BN, the first with PReLU.
    never = (16 + 32 + 64 + 128) + (81 + 6 + 3) + (3 * 256 + 512)
    assert published_parameters(model) - parameters(model) == never
