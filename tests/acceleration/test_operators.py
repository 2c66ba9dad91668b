"""Every operator against torch's own in float64, gradients included."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from espnetv2.acceleration import operators
from espnetv2.acceleration.bands import Band, Scale, bilinear, pooling
from espnetv2.models.decoders.pyramid import SCALES, PyramidStage


@pytest.fixture(autouse=True)
def same_chance() -> None:
    torch.manual_seed(0)


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def agree(
    ours: Callable[..., Tensor], reference: Callable[..., Tensor], leaves: Sequence[Tensor], within: float = 5e-6
) -> None:
    exact_leaves = [tensor.detach().double().requires_grad_() for tensor in leaves]
    found, wanted = ours(*leaves), reference(*exact_leaves)
    gradient = torch.randn(wanted.shape)
    found_all = [found.detach(), *torch.autograd.grad(found, leaves, gradient)]
    wanted_all = [wanted.detach(), *torch.autograd.grad(wanted, exact_leaves, gradient.double())]
    for one, other in zip(found_all, wanted_all, strict=True):
        assert one.shape == other.shape
        assert float((one - other).norm()) <= within * float(other.norm()) + 1e-6


def fused(x: Tensor, weights: Sequence[Tensor], dilations: Sequence[int], stride: int) -> Tensor:
    outputs: list[Tensor] = []
    for weight, dilation in zip(weights, dilations, strict=True):
        out = F.conv2d(x, weight, stride=stride, padding=dilation, dilation=dilation, groups=x.shape[1])
        outputs.append(out + outputs[-1] if outputs else out)
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize(
    ("shape", "stride", "dilations"),
    [
        ((2, 8, 9, 11), 1, (1, 2, 3, 4)),
        ((3, 10, 16, 16), 2, (1, 2, 3, 4)),
        ((1, 3, 7, 5), 2, (1, 1, 2, 3)),
        ((2, 9, 1, 1), 1, (1, 4)),
        ((1, 16, 5, 8), 2, (2,)),
        ((2, 4, 33, 2), 2, (1, 6)),
        ((1, 70, 20, 20), 1, (1,)),
    ],
)
def test_depthwise_pyramid(shape: tuple[int, ...], stride: int, dilations: tuple[int, ...]) -> None:
    leaves = [leaf(*shape), *(leaf(shape[1], 1, 3, 3) for _ in dilations)]
    agree(
        lambda x, *w: operators.depthwise_pyramid(x, w, dilations, stride),
        lambda x, *w: fused(x, w, dilations, stride),
        leaves,
    )


@pytest.mark.parametrize(("n", "c", "h", "w"), [(2, 10, 9, 7), (1, 16, 4, 4), (3, 9, 1, 5)])
def test_depthwise_merge_is_a_grouped_convolution_after_a_channel_shuffle(n: int, c: int, h: int, w: int) -> None:
    agree(
        lambda x, weight: operators.depthwise_merge(x, weight, 5),
        lambda x, weight: F.conv2d(x.view(n, 5, c, h, w).transpose(1, 2).flatten(1, 2), weight, padding=1, groups=c),
        [leaf(n, 5 * c, h, w), leaf(c, 5, 3, 3)],
    )


@pytest.mark.parametrize(
    ("n", "ins", "outs", "groups", "h", "w"),
    [
        (2, 16, 4, 4, 9, 7),
        (1, 32, 8, 4, 5, 5),
        (2, 128, 128, 4, 6, 5),
        (2, 256, 64, 4, 4, 4),
        (3, 30, 10, 1, 7, 7),
        (2, 24, 48, 4, 3, 50),
        (1, 12, 20, 4, 1, 1),
        (2, 18, 6, 6, 5, 5),
        (2, 20, 20, 2, 20, 20),
    ],
)
def test_pointwise(n: int, ins: int, outs: int, groups: int, h: int, w: int) -> None:
    agree(
        lambda x, weight: operators.pointwise(x, weight, groups),
        lambda x, weight: F.conv2d(x, weight, groups=groups),
        [leaf(n, ins, h, w), leaf(outs, ins // groups, 1, 1)],
    )


@pytest.mark.parametrize("shape", [(2, 10, 16, 24), (1, 8, 7, 5), (2, 9, 3, 2), (1, 17, 33, 1), (2, 16, 40, 40), (1, 8, 1, 1)])
def test_stages(shape: tuple[int, ...]) -> None:
    size = (shape[2], shape[3])
    stages = [PyramidStage(shape[1], scale) for scale in SCALES]
    scales = [None if stage.scale == 1.0 else Scale(*stage.inner_size(size), stage.scale > 1.0) for stage in stages]

    def reference(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.cat(
            [
                torch.func.functional_call(stage.double(), {"conv.weight": weight}, (x,))
                for stage, weight in zip(stages, weights, strict=True)
            ],
            dim=1,
        )

    leaves = [leaf(*shape), *(leaf(shape[1], 1, 3, 3) for _ in stages)]
    agree(lambda x, *w: operators.stages(x, w, scales), reference, leaves, within=2e-5)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 20, 8, 9), (16, 18)),
        ((1, 3, 5, 5), (3, 11)),
        ((2, 64, 4, 4), (1, 1)),
        ((1, 9, 1, 1), (5, 4)),
        ((2, 8, 16, 16), (31, 32)),
    ],
)
def test_resize(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    agree(
        lambda x: operators.resize(x, size),
        lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=True),
        [leaf(*shape)],
        within=1e-5,
    )


@pytest.mark.parametrize("shape", [(2, 20, 9, 7), (1, 2, 3, 3), (2, 8, 4, 4), (1, 150, 5, 5), (2, 19, 16, 16)])
def test_cross_entropy(shape: tuple[int, ...]) -> None:
    chance = torch.Generator().manual_seed(2)
    n, c, h, w = shape
    target = torch.randint(0, c, (n, h, w), generator=chance)
    target[torch.rand(n, h, w, generator=chance) < 0.2] = 255
    agree(
        lambda x: operators.cross_entropy(8 * x, target, 255),
        lambda x: F.cross_entropy(8 * x, target, ignore_index=255, reduction="none"),
        [leaf(*shape)],
    )


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 20, 33, 40), (1, 256, 4, 3), (2, 1, 3, 3)])
def test_soft_overlap(shape: tuple[int, ...]) -> None:
    chance = torch.Generator().manual_seed(2)
    n, c, h, w = shape
    target = torch.randint(0, c, (n, h, w), generator=chance)
    target[torch.rand(n, h, w, generator=chance) < 0.2] = 300
    known = (target != 300)[:, None]
    labelled = F.one_hot(target.where(known[:, 0], 0), c).permute(0, 3, 1, 2) * known

    def reference(x: Tensor) -> Tensor:
        probability = (8 * x).softmax(1) * known
        return torch.stack([(value * 1.0).sum((0, 2, 3)) for value in (probability * labelled, probability, labelled)])

    agree(lambda x: operators.soft_overlap(8 * x, target, 300), reference, [leaf(*shape)])


def test_cross_entropy_of_far_and_broken_logits() -> None:
    target = torch.zeros(1, 1, 3, dtype=torch.long)
    logits = torch.tensor([[0.0, 500.0], [float("nan"), 0.0], [-300.0, 0.0]]).T[None, :, None]
    loss = operators.cross_entropy(logits, target, 255)[0, 0]
    assert loss[0] == 500
    assert loss[1].isnan()
    assert loss[2] == 300


def test_a_target_that_is_no_class_is_refused() -> None:
    with pytest.raises(IndexError, match="neither one of 3 classes nor 255"):
        operators.cross_entropy(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 3), 255)


def test_a_target_that_is_no_class_has_no_overlap() -> None:
    with pytest.raises(IndexError, match="neither one of 3 classes nor 255"):
        operators.soft_overlap(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 3), 255)


@pytest.mark.parametrize("target", [torch.zeros(1, 2, 2, dtype=torch.int32), torch.zeros(1, 1, 2, dtype=torch.long)])
def test_a_target_of_another_kind_is_refused(target: Tensor) -> None:
    with pytest.raises(ValueError, match=r"int64 \(N, H, W\)"):
        operators.cross_entropy(torch.zeros(1, 3, 2, 2), target, 255)


def test_moments_do_not_hang_on_the_first_pixel() -> None:
    x = torch.randn(4, 8, 128, 128)
    x[0, :, 0, 0] = 1000
    assert torch.allclose(operators.moments(x)[1].double(), x.double().var((0, 2, 3), unbiased=False), rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 8, 9, 7), (2, 45, 13, 5), (4, 10, 16, 16), (3, 256, 3, 3), (2, 3, 1, 2)])
@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_norm_act(shape: tuple[int, ...], act: bool, residual: bool, batch: bool) -> None:
    channels = shape[1]
    mean, variance = torch.randn(channels), torch.rand(channels) + 0.5
    names = ["x", "gamma", "beta", *(["slope"] if act else []), *(["residual"] if residual else [])]
    leaves = [leaf(*shape) if name in ("x", "residual") else leaf(channels) for name in names]

    def ours(*given: Tensor) -> Tensor:
        have = dict(zip(names, given, strict=True))
        by = operators.moments(have["x"].detach()) if batch else (mean, variance)
        return operators.norm_act(
            have["x"], have["gamma"], have["beta"], *by, 1e-5, have.get("slope"), have.get("residual"), batch=batch
        )

    def reference(*given: Tensor) -> Tensor:
        have = dict(zip(names, given, strict=True))
        by = None if batch else mean.double(), None if batch else variance.double()
        out = F.batch_norm(have["x"], by[0], by[1], have["gamma"], have["beta"], batch, 0.1, 1e-5)
        out = out + have["residual"] if residual else out
        return F.prelu(out, have["slope"]) if act else out

    agree(ours, reference, leaves, within=2e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_activation(residual: bool) -> None:
    leaves = [leaf(2, 12, 5, 3), leaf(12), *([leaf(2, 12, 5, 3)] if residual else [])]
    agree(
        lambda x, slope, *rest: operators.activation(x, slope, rest[0] if rest else None),
        lambda x, slope, *rest: F.prelu(x + rest[0] if rest else x, slope),
        leaves,
    )


def test_moments_of_far_away_values_keep_their_variance() -> None:
    x = 1000 + torch.randn(4, 5, 30, 30, generator=torch.Generator().manual_seed(0))
    mean, variance = operators.moments(x)
    exact = x.double()
    assert torch.allclose(mean.double(), exact.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(variance.double(), exact.var((0, 2, 3), unbiased=False), rtol=1e-4)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            x, weights = leaf(3, 20, 17, 13), [leaf(20, 1, 3, 3) for _ in range(4)]
            mean, variance = operators.moments(x.detach())
            out = operators.depthwise_pyramid(x, weights, (1, 2, 3, 4), 1)
            loss = operators.pointwise(out, leaf(16, 20, 1, 1), 4).square().sum()
            found.append([mean, variance, *torch.autograd.grad(loss, [x, *weights])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_the_kernels_do_not_take() -> None:
    good = torch.zeros(1, 2, 3, 4)
    assert operators.usable(good)
    assert not operators.usable(good, good.double())
    assert not operators.usable(good[:0])
    assert not operators.usable(good.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not operators.usable(good)
    with FlopCounterMode(display=False):
        assert not operators.usable(good)
    assert torch.vmap(lambda x: x + operators.usable(x))(good).sum() == 0


def test_another_default_device() -> None:
    logits, weight = torch.randn(1, 3, 5, 7), torch.randn(8, 2, 1, 1)
    target = torch.zeros(1, 5, 7, dtype=torch.int64)
    x = torch.randn(1, 8, 5, 7)
    wanted = operators.soft_overlap(logits, target, 255), operators.pointwise(x, weight, 4)
    with torch.device("meta"):
        found = operators.soft_overlap(logits, target, 255), operators.pointwise(x, weight, 4)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_a_band_is_its_matrix() -> None:
    for matrix, wanted in (
        (bilinear(5, 12), _resized(5, 12)),
        (bilinear(12, 5).transposed(), _resized(12, 5).T),
        (pooling(7, 3), _pooled(7, 3)),
        (pooling(3, 5).transposed(), _pooled(3, 5).T),
        (bilinear(9, 1), _resized(9, 1)),
        (bilinear(4, 4), torch.eye(4)),
    ):
        band = Band.of(matrix)
        back = torch.zeros(matrix.outputs, matrix.inputs)
        for i, (first, weights) in enumerate(zip(band.first, band.weight, strict=True)):
            back[i, first : first + len(weights)] = torch.from_numpy(weights)
        assert torch.allclose(back, wanted, atol=1e-6)


def _resized(inputs: int, outputs: int) -> Tensor:
    """Columns are what torch makes of the unit vectors."""
    return F.interpolate(torch.eye(inputs)[None], size=outputs, mode="linear", align_corners=True)[0].T


def _pooled(inputs: int, outputs: int) -> Tensor:
    return F.adaptive_avg_pool1d(torch.eye(inputs)[None], outputs)[0].T


def test_a_long_side_takes_no_square_of_memory() -> None:
    band = Band.of(bilinear(100_000, 150_000).transposed())
    assert band.weight.nbytes < 10_000_000
    assert Band.of(pooling(100_000, 10_000)).weight.nbytes < 10_000_000
