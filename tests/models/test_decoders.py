from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from espnetv2.errors import UserError
from espnetv2.models.decoders.pyramid import PyramidStage
from espnetv2.models.registry import model_spec
from espnetv2.models.segmentation import SegmentationModel


@pytest.mark.parametrize(
    ("scale", "size", "inner"),
    [
        (2.0, (32, 64), (64, 128)),
        (1.5, (33, 7), (50, 11)),
        (0.5, (32, 9), (16, 5)),
        (0.1, (256, 512), (26, 52)),
        (0.1, (1, 30), (5, 5)),
    ],
)
def test_inner_size_of_a_pyramid_stage(scale: float, size: tuple[int, int], inner: tuple[int, int]) -> None:
    assert PyramidStage(4, scale).inner_size(size) == inner


def test_the_psp_decoder_has_an_auxiliary_output_and_the_other_has_none() -> None:
    image = torch.randn(2, 3, 40, 56)
    psp = model_spec("espnetv2_seg_psp_s0_5").build(4)
    logits, auxiliary = psp.forward_with_auxiliary(image) if isinstance(psp, SegmentationModel) else (None, None)
    assert logits is not None
    assert auxiliary is not None
    assert logits.shape == auxiliary.shape == (2, 4, 40, 56)
    pyramid = SegmentationModel(0.5, 4)
    logits, auxiliary = pyramid.forward_with_auxiliary(image)
    assert logits.shape == (2, 4, 40, 56)
    assert auxiliary is None


def test_an_unknown_decoder_is_refused() -> None:
    with pytest.raises(UserError, match='no decoder "deeplab"'):
        SegmentationModel(0.5, 4, cast("Any", "deeplab"))
