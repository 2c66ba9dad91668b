from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from espnetv2.exporting.stages import AnySize, Enlarged, Halved, Matrices, rewritten_stage
from espnetv2.models.decoders.pyramid import SCALES, PyramidStage
from espnetv2.models.layers import conv2d

KINDS = {
    (2.0, (12, 20)): Enlarged,
    (2.0, (7, 9)): Enlarged,
    (2.0, (2, 9)): Matrices,
    (1.5, (12, 20)): Enlarged,
    (1.5, (7, 20)): Matrices,
    (0.5, (12, 20)): Halved,
    (0.5, (13, 20)): Matrices,
    (0.5, (8, 20)): Matrices,
    (0.1, (12, 73)): Matrices,
}


def stage(scale: float) -> PyramidStage:
    torch.manual_seed(0)
    made = PyramidStage(3, scale)
    made.conv = conv2d(3, 3, 3, groups=3, bias=True)
    return made.eval()


@pytest.mark.parametrize(("case", "kind"), KINDS.items(), ids=str)
def test_a_stage_of_known_size(case: tuple[float, tuple[int, int]], kind: type) -> None:
    scale, size = case
    plain, image = stage(scale), torch.randn(2, 3, *size)
    found = rewritten_stage(stage(scale), size)
    assert type(found) is kind
    with torch.no_grad():
        torch.testing.assert_close(found(image), plain(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != 1.0])
def test_a_stage_of_any_size(scale: float) -> None:
    found = rewritten_stage(stage(scale), None)
    assert type(found) is (Enlarged if scale == 2.0 else AnySize)
    for size in ((3, 4), (12, 20), (13, 7)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(found(image), stage(scale)(image), rtol=1e-4, atol=1e-5)


def test_averages_are_those_of_adaptive_pooling() -> None:
    from espnetv2.exporting.stages import _averages

    for source, target in ((10, 3), (3, 10), (7, 7), (256, 26)):
        line = torch.randn(1, 1, source)
        expected = F.adaptive_avg_pool1d(line, target)[0, 0]
        torch.testing.assert_close(_averages(source, target) @ line[0, 0], expected)
