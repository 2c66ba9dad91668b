"""Every kernel against plain PyTorch in double precision: on the GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from espnetv2.acceleration.gpu import reference
from espnetv2.acceleration.gpu.layout import dense
from espnetv2.acceleration.gpu.tables import stage_tables
from espnetv2.models.decoders.pyramid import SCALES

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
# The interpreter is slow: types and layouts are tried together, not each with each.
kinds = pytest.mark.parametrize(
    ("dtype", "layout"),
    [(torch.float32, "with gaps"), (torch.float16, "NCHW"), (torch.bfloat16, "channels-last")],
)
DILATIONS = [(1, 2, 3, 4), (1, 1, 2, 3), (1, 1, 1, 2)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def maps(*shape: int, dtype: torch.dtype = torch.float32, layout: str = "NCHW") -> Tensor:
    x = torch.randn(shape, device=DEVICE).to(dtype)
    if layout == "with gaps":
        wide = torch.full((shape[0], shape[1] + 1, shape[2] * 2, shape[3] + 3), float("nan"), device=DEVICE, dtype=dtype)
        wide[:, 1:, ::2, 2:-1] = x
        return wide[:, 1:, ::2, 2:-1]
    return x.contiguous(memory_format=torch.channels_last) if layout == "channels-last" else x


def per_channel(count: int) -> tuple[Tensor, Tensor, Tensor]:
    scale, shift, slope = (torch.randn(count, device=DEVICE) for _ in range(3))
    return scale, shift, slope


def exactly(value: Any) -> Any:
    """The same in double precision on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu().double() if value.is_floating_point() else value.cpu()
    return [exactly(part) for part in value] if isinstance(value, list) else value


def check(found: Tensor, plain: Callable[..., Any], *arguments: Any, dtype: torch.dtype) -> None:
    wanted = plain(*(exactly(argument) for argument in arguments))
    assert found.dtype == dtype
    assert found.shape == wanted.shape
    distance = (found.cpu().double() - wanted).norm() / wanted.norm()
    assert float(distance) <= TOLERANCES[dtype]


def strided(x: Tensor, channels: int, stride: int) -> tuple[int, int, int, int]:
    return x.shape[0], channels, -(-x.shape[2] // stride), -(-x.shape[3] // stride)


@kinds
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilations", DILATIONS)
def test_middle(dilations: Sequence[int], stride: int, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.branches import middle

    x, weight = maps(1, 3, 5, 6, dtype=dtype, layout=layout), torch.randn(4, 3, 3, 3, device=DEVICE)
    affine = per_channel(12)
    found = middle(x, weight, dilations, stride, *affine)
    check(found, reference.middle, x, weight, dilations, stride, *affine, dtype=dtype)
    assert found.is_contiguous(memory_format=torch.channels_last if layout == "channels-last" else torch.contiguous_format)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (3, 1), (1, 130)])
@pytest.mark.parametrize("stride", [1, 2])
def test_branches_of_any_size(height: int, width: int, stride: int) -> None:
    from espnetv2.acceleration.gpu.kernels.branches import branches, branches_backward

    x, weight = maps(2, 3, height, width), torch.randn(2, 3, 3, 3, device=DEVICE)
    found = branches(x, weight, (1, 2), stride)
    check(found, reference.branches, x, weight, (1, 2), stride, dtype=x.dtype)
    check_gradients(branches_backward, torch.randn_like(found), x, weight, (1, 2), stride)


@kinds
@pytest.mark.parametrize(("stride", "dilations"), [(1, DILATIONS[0]), (2, DILATIONS[1]), (1, DILATIONS[2])])
def test_gradients_of_branches(dilations: Sequence[int], stride: int, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.branches import branches_backward

    x, weight = maps(1, 3, 5, 6, dtype=dtype, layout=layout), torch.randn(4, 3, 3, 3, device=DEVICE)
    check_gradients(branches_backward, maps(*strided(x, 12, stride), dtype=dtype), x, weight, dilations, stride)


def test_gradients_of_many_pixels_are_summed_in_parts() -> None:
    from espnetv2.acceleration.gpu.kernels.branches import branches_backward

    x, weight = maps(2, 2, 12, 26), torch.randn(1, 2, 3, 3, device=DEVICE)
    check_gradients(branches_backward, maps(2, 2, 12, 26), x, weight, (2,), 1)


def check_gradients(backward: Callable[..., tuple[Tensor, Tensor]], *arguments: Any) -> None:
    dx, dw = backward(*arguments)
    check(dx, lambda *given: reference.branches_backward(*given)[0], *arguments, dtype=arguments[1].dtype)
    check(dw, lambda *given: reference.branches_backward(*given)[1], *arguments, dtype=torch.float32)


@kinds
@pytest.mark.parametrize(("groups", "ins", "outs"), [(1, 3, 20), (2, 40, 17), (4, 4, 4), (1, 130, 2)])
def test_pointwise(groups: int, ins: int, outs: int, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.pointwise import pointwise

    x = maps(2, groups * ins, 3, 7, dtype=dtype, layout=layout)
    weight = torch.randn(groups, outs, ins, device=DEVICE).to(dtype)
    _, shift, slope = per_channel(groups * outs)
    residual = maps(2, groups * outs, 3, 7, dtype=dtype)
    for given in ((shift, slope, residual), (shift, None, None)):
        check(pointwise(x, weight, *given), reference.pointwise, x, weight, *given, dtype=dtype)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 33), (19, 1)])
def test_pointwise_of_thin_maps(height: int, width: int) -> None:
    from espnetv2.acceleration.gpu.kernels.pointwise import pointwise

    turned = maps(1, 3, width, height).transpose(2, 3)
    weight, (_, shift, slope) = torch.randn(1, 5, 3, device=DEVICE), per_channel(5)
    check(
        pointwise(turned, weight, shift, slope, None),
        reference.pointwise,
        turned,
        weight,
        shift,
        slope,
        None,
        dtype=torch.float32,
    )


@kinds
@pytest.mark.parametrize(
    ("groups", "ins", "outs", "stride", "shuffled"), [(1, 3, 16, 2, False), (3, 2, 3, 1, False), (2, 5, 1, 1, True)]
)
def test_convolve(groups: int, ins: int, outs: int, stride: int, shuffled: bool, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.convolve import convolve

    x = maps(1, groups * ins, 2, 9, dtype=dtype, layout=layout)
    weight, (_, shift, slope) = torch.randn(groups * outs, ins, 3, 3, device=DEVICE), per_channel(groups * outs)
    arguments = (x, weight, groups, stride, shift, slope, shuffled)
    check(convolve(*arguments), reference.convolve, *arguments, dtype=dtype)


@kinds
def test_stages(layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.stages import stages

    x = maps(1, 2, 4, 11, dtype=dtype, layout=layout)
    check_stages(stages, x)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (7, 1), (1, 131)])
def test_stages_of_any_size(height: int, width: int) -> None:
    from espnetv2.acceleration.gpu.kernels.stages import stages

    check_stages(stages, maps(2, 1, height, width))


def check_stages(stages: Callable[..., Tensor], x: Tensor) -> None:
    channels, size = x.shape[1], (x.shape[2], x.shape[3])
    weight = torch.randn(len(SCALES), channels, 3, 3, device=DEVICE)
    arguments = (x, weight, list(SCALES), list(stage_tables(size, SCALES, DEVICE)), *per_channel(len(SCALES) * channels))
    check(stages(*arguments), reference.stages, *arguments, dtype=x.dtype)


@kinds
@pytest.mark.parametrize("below", [(2, 5), (1, 1), (3, 9)])
def test_fuse(below: tuple[int, int], layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.resize import fuse

    skip, under = maps(2, 5, 3, 9, dtype=dtype, layout=layout), maps(2, 5, *below, dtype=dtype)
    arguments = (skip, torch.rand(2, 5, 1, 1, device=DEVICE).to(dtype), under, *per_channel(5))
    check(fuse(*arguments), reference.fuse, *arguments, dtype=dtype)


@kinds
@pytest.mark.parametrize("with_shortcut", [True, False])
def test_join(with_shortcut: bool, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.join import join

    x, expanded = maps(1, 3, 5, 10, dtype=dtype, layout=layout), maps(1, 5, 3, 5, dtype=dtype)
    arguments = (x, expanded, maps(1, 8, 3, 5, dtype=dtype) if with_shortcut else None, per_channel(8)[2])
    check(join(*arguments), reference.join, *arguments, dtype=dtype)


@kinds
@pytest.mark.parametrize("size", [(7, 13), (1, 1), (2, 140), (4, 4)])
def test_classes(size: tuple[int, int], layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels.resize import classes

    logits = maps(2, 6, 4, 4, dtype=dtype, layout=layout)
    found = classes(logits, *size, 5)
    assert found.dtype == torch.uint8
    assert torch.equal(found.cpu(), reference.classes(exactly(logits), *size, 5))


def test_what_is_no_number_wins_as_in_torch() -> None:
    from espnetv2.acceleration.gpu.kernels.resize import classes

    logits = maps(1, 5, 2, 3)
    logits[0, 1, 0, 0] = logits[0, 3, :, :] = float("nan")
    assert torch.equal(classes(logits, 2, 3, 5).cpu(), reference.classes(logits.cpu(), 2, 3, 5))


@kinds
@pytest.mark.parametrize("full", [True, False])
def test_normalise(full: bool, layout: str, dtype: torch.dtype) -> None:
    from espnetv2.acceleration.gpu.kernels import normalise as kernels

    x, grad = dense(maps(2, 3, 4, 5, dtype=dtype, layout=layout)), maps(2, 3, 4, 5, dtype=dtype)
    gamma, beta, mean = per_channel(3)
    slope, variance, _ = per_channel(3)
    residual = maps(2, 3, 4, 5, dtype=dtype) if full else None
    given = (x, gamma, beta, mean, variance.abs() + 0.1, 1e-5, slope if full else None, residual)
    check(kernels.norm_act(*given, True), reference.norm_act, *given, True, dtype=dtype)
    sums = kernels.norm_act_sums(*given, grad)
    check(sums, reference.norm_act_sums, *given, grad, dtype=torch.float32)
    dx, dresidual = kernels.norm_act_backward(*given, grad, sums if full else None)
    check(dx, lambda *a: reference.norm_act_backward(*a)[0], *given, grad, sums if full else None, dtype=dtype)
    assert (dresidual.ndim == 4) == full
    if full:
        check(dresidual, lambda *a: reference.norm_act_backward(*a)[1], *given, grad, sums, dtype=dtype)


def test_sums_of_many_pixels_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from espnetv2.acceleration.gpu.kernels import normalise as kernels

    monkeypatch.setattr(kernels, "_PROGRAMS", 3)
    x, grad, (gamma, beta, mean) = maps(3, 2, 20, 30), maps(3, 2, 20, 30), per_channel(2)
    given = (x, gamma, beta, mean, gamma.abs() + 0.1, 1e-5, beta, None, grad)
    check(kernels.norm_act_sums(*given), reference.norm_act_sums, *given, dtype=torch.float32)
