from __future__ import annotations

import pytest
import torch

from espnetv2.errors import UserError
from espnetv2.models.eesp import EESP, SplitTransformMerge, branch_dilations


@pytest.mark.parametrize(
    ("receptive_field", "dilations"),
    [(13, (1, 2, 3, 4)), (11, (1, 2, 3, 4)), (9, (1, 2, 3, 4)), (7, (1, 1, 2, 3)), (5, (1, 1, 1, 2))],
)
def test_dilations_follow_the_receptive_field(receptive_field: int, dilations: tuple[int, ...]) -> None:
    assert branch_dilations(receptive_field) == dilations


def test_branches_are_summed_up_from_the_first() -> None:
    """With every convolution an identity, branch i holds i + 1 times the reduced input."""
    unit = SplitTransformMerge(4, 16, stride=1, receptive_field=9).eval()
    with torch.no_grad():
        unit.reduce.conv.weight.fill_(1.0)
        for weight in unit.branches.parameters():
            weight.zero_()
            weight[:, :, 1, 1] = 1.0
        seen: list[torch.Tensor] = []
        unit.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        unit(torch.ones(1, 4, 5, 5))
    reduced = 1 / (1 + 1e-5) ** 0.5
    for branch_index in range(4):
        found = seen[0][0, 4 * branch_index : 4 * branch_index + 4]
        assert torch.allclose(found, torch.full_like(found, (branch_index + 1) * reduced))


def test_the_residual_is_there_where_channels_agree() -> None:
    assert EESP(16, 16, receptive_field=9).residual
    assert not EESP(32, 16, receptive_field=9).residual


def test_channels_must_be_divisible_by_the_branches() -> None:
    for channels in ((6, 16), (16, 24)):
        with pytest.raises(UserError, match="a multiple of 4 input and of 16 output channels, not {} -> {}".format(*channels)):
            EESP(*channels, receptive_field=9)
