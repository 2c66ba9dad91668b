from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnetv2.acceleration.gpu import operators, reference
from espnetv2.acceleration.gpu.tables import stage_tables
from espnetv2.models.decoders.pyramid import SCALES, EfficientPyramidPool
from espnetv2.models.eesp import SplitTransformMerge

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def exact(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def calls() -> dict[str, tuple[Any, ...]]:
    """Arguments for every operator, small."""
    x, one = torch.randn(2, 4, 5, 6), torch.rand(4)
    four = torch.randn(16), torch.randn(16), torch.randn(16)
    normalisation = torch.randn(4), torch.randn(4), torch.randn(4), torch.rand(4), 1e-5, torch.rand(4)
    tables = list(stage_tables((5, 6), SCALES, CPU))
    return {
        "branches": (x, torch.randn(4, 4, 3, 3), [1, 1, 2, 3], 2),
        "branches_backward": (torch.randn(2, 16, 3, 3), x, torch.randn(4, 4, 3, 3), [1, 1, 2, 3], 2),
        "middle": (x, torch.randn(4, 4, 3, 3), [1, 2, 3, 4], 1, *four),
        "pointwise": (x, torch.randn(2, 3, 2), torch.randn(6), torch.randn(6), torch.randn(2, 6, 5, 6)),
        "convolve": (x, torch.randn(6, 2, 3, 3), 2, 2, torch.randn(6), torch.randn(6), True),
        "stages": (x, torch.randn(5, 4, 3, 3), list(SCALES), tables, *(torch.randn(20) for _ in range(3))),
        "fuse": (x, torch.rand(2, 4, 1, 1), torch.randn(2, 4, 3, 3), one, one, one),
        "join": (x, torch.randn(2, 3, 3, 3), torch.randn(2, 7, 3, 3), torch.rand(7)),
        "classes": (x, 10, 12, 3),
        "norm_act": (x, *normalisation, torch.rand_like(x), True),
        "norm_act_sums": (x, *normalisation, torch.rand_like(x), torch.randn_like(x)),
        "norm_act_backward": (x, *normalisation, torch.rand_like(x), torch.randn_like(x), torch.randn(3, 4)),
    }


@pytest.mark.parametrize("name", calls())
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torch_can_trace_them(name: str, layout: torch.memory_format) -> None:
    first, *rest = calls()[name]
    operator = getattr(torch.ops.espnetv2, name).default
    torch.library.opcheck(operator, (first.contiguous(memory_format=layout), *rest))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilations", [[1, 2, 3, 4], [1, 1, 2, 3], [1, 1, 1, 2]])
def test_gradients_of_branches(dilations: list[int], stride: int) -> None:
    assert torch.autograd.gradcheck(
        lambda x, w: operators.branches(x, w, dilations, stride), (exact(2, 2, 6, 5), exact(4, 2, 3, 3))
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_branches_are_those_of_the_network(stride: int) -> None:
    unit = SplitTransformMerge(8, 16, stride=stride, receptive_field=9).double()
    seen: list[Tensor] = []
    unit.norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    x = torch.randn(1, 4, 7, 9, dtype=torch.float64)
    unit.reduce.register_forward_hook(lambda *_: x)
    unit(torch.randn(1, 8, 7, 9, dtype=torch.float64))
    convolutions = [branch for branch in unit.branches if isinstance(branch, nn.Conv2d)]
    weight = torch.stack([conv.weight[:, 0] for conv in convolutions])
    found = operators.branches(x, weight, [conv.dilation[0] for conv in convolutions], stride)
    assert torch.allclose(found, seen[0], rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("size", [(13, 22), (1, 1), (3, 40), (64, 2)])
def test_tables_say_what_the_stages_do(size: tuple[int, int]) -> None:
    pool = EfficientPyramidPool(4, 2, 4)
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    tables = stage_tables(size, SCALES, CPU)
    for index, scale in enumerate(SCALES):
        stage = pool.stages[index].double()
        source = x if scale >= 1 else F.adaptive_avg_pool2d(x, (int(tables.sizes[index, 2]), int(tables.sizes[index, 3])))
        wanted = stage(x)
        kernel = stage.get_parameter("conv.weight")[:, 0]
        found = torch.zeros_like(wanted)
        for a in range(int(tables.sizes[index, 0])):
            for b in range(int(tables.sizes[index, 1])):
                y, at = tables.row_first[index].long() + a, tables.column_first[index].long() + b
                share = torch.einsum(
                    "iy,jx,cij->cyx", tables.rows[index, a].double(), tables.columns[index, b].double(), kernel
                )
                found += share * source[:, :, y[:, None], at[None, :]]
        assert float((found - wanted).norm() / wanted.norm()) < 5e-6  # places are float32, as for torch


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("active", [True, False])
def test_gradients_of_normalisation(batch: bool, active: bool) -> None:
    x, gamma, beta, slope, residual = exact(2, 3, 4, 5), exact(3), exact(3), exact(3), exact(2, 3, 4, 5)
    mean, variance = torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    plain = F.batch_norm(x, None if batch else mean, None if batch else variance, gamma, beta, batch)
    wanted = F.prelu(plain + residual, slope) if active else plain
    if batch:
        variance, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
    given = (mean, variance, 1e-5, slope if active else None, residual if active else None, batch)
    found = operators.norm_act(x, gamma, beta, *given)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    inputs = [x, gamma, beta, *([slope, residual] if active else [])]
    grad = torch.randn_like(found)
    pairs = zip(torch.autograd.grad(found, inputs, grad), torch.autograd.grad(wanted, inputs, grad), strict=True)
    assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-10) for ours, theirs in pairs)


def test_gradients_of_normalisation_without_activation_and_with_gaps() -> None:
    wide, residual = exact(2, 3, 4, 10), exact(2, 3, 4, 5)
    x, one, mean = wide[..., ::2], torch.rand(3).double() + 0.5, torch.randn(3).double()
    found = operators.norm_act(x, one, one, mean, one, 1e-5, None, residual, False)
    wanted = F.batch_norm(x, mean, one, one, one, False, 0.0, 1e-5) + residual
    grad = torch.randn_like(found)
    ours_and_theirs = (torch.autograd.grad(out, (wide, residual), grad) for out in (found, wanted))
    pairs = zip(*ours_and_theirs, strict=True)
    assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-10) for ours, theirs in pairs)


def test_gradients_of_normalisation_by_differences() -> None:
    def normalised(x: Tensor, *rest: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
        gamma, beta, slope, residual = rest
        out: Tensor = operators.norm_act(x, gamma, beta, mean, variance, 1e-5, slope, residual, True)
        return out

    assert torch.autograd.gradcheck(normalised, (exact(2, 2, 3, 4), exact(2), exact(2), exact(2), exact(2, 2, 3, 4)))


@pytest.mark.parametrize("batch", [True, False])
def test_what_does_not_learn_gets_no_gradient(batch: bool) -> None:
    x, gamma, residual = exact(2, 3, 4, 5), torch.randn(3).double(), torch.randn(2, 3, 4, 5).double()
    variance, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
    out = operators.norm_act(x, gamma, gamma, mean, variance, 1e-5, gamma, residual, batch)
    made = F.batch_norm(x, None if batch else mean, None if batch else variance, gamma, gamma, batch)
    wanted = F.prelu(made + residual, gamma)
    grad = torch.randn_like(out)
    found, right = (torch.autograd.grad(value, x, grad)[0] for value in (out, wanted))
    assert torch.allclose(found, right, rtol=0, atol=1e-10)


def test_an_operator_is_one_step_of_a_compiled_and_of_an_exported_function() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            out: Tensor = operators.branches(x * 2, weight, [1, 2, 3, 4], 1).relu()
            return out

    x, weight = torch.randn(1, 3, 6, 7), torch.randn(4, 3, 3, 3)
    wanted = reference.branches(x * 2, weight, [1, 2, 3, 4], 1).relu()
    compiled = torch.compile(Two(), backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x, weight), wanted)
    program = torch.export.export(Two(), (x, weight))
    assert "espnetv2.branches" in str(program.graph)
    assert torch.allclose(program.module()(x, weight), wanted)
