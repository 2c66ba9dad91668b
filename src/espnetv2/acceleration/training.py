"""A faster training step: the network's own layers, with forward and backward passes in this package's kernels.

A layer keeps its parameters, their names and its position; only its class changes, to one that computes the same function.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

from espnetv2.acceleration import operators
from espnetv2.acceleration.bands import Scale
from espnetv2.acceleration.compiler import kernels
from espnetv2.acceleration.gpu import operators as gpu
from espnetv2.acceleration.gpu.trial import check_training_kernels
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, PyramidStage
from espnetv2.models.eesp import EESP, SplitTransformMerge, StridedEESP
from espnetv2.models.layers import BNAct, ConvBN, ConvBNAct, Resize, average_pool, spatial_size


def accelerate_training(network: nn.Module, device: str = "cpu") -> None:
    """Replace every layer of ``network`` that has a faster form, in place.

    Tensors that the kernels do not support take the plain path: on a CPU those that are not float32 or are under autocast, on
    a GPU float64.

    Args:
        network: in the memory layout and with the kind of normalisation that it will train with.
        device: to train on: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        KernelsUnavailableError: the message gives the reason; the network is unchanged.
    """
    if torch.device(device).type == "cuda":
        check_training_kernels(torch.device(device))
    else:
        kernels()
    for module in network.modules():
        faster = _FASTER.get(type(module))
        if faster is not None:
            module.__class__ = faster


class _Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        if _is_plain(self, x) and operators.usable(x, self.weight):
            if self.kernel_size == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0):
                return operators.pointwise(x, self.weight, self.groups)
            if _is_depthwise(self):
                return operators.depthwise_pyramid(x, [self.weight], self.dilation[:1], self.stride[0])
        return super().forward(x)


class _ConvBN(ConvBN):
    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self.bn, None, self.conv(x))


class _ConvBNAct(ConvBNAct):
    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self.bn, self.act, self.conv(x))


class _BNAct(BNAct):
    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self.bn, self.act, x)


class _SplitTransformMerge(SplitTransformMerge):
    def transform(self, x: Tensor) -> Tensor:
        return _merged(self, x, None, None)


class _EESP(EESP):
    def forward(self, x: Tensor) -> Tensor:
        return _merged(self, x, self.act, x if self.residual else None)


class _StridedEESP(StridedEESP):
    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        out = torch.cat([average_pool(x), self.eesp(x)], dim=1)
        return _activate(self.act, out, None if self.shortcut is None else self.shortcut(image))


class _EfficientPyramidPool(EfficientPyramidPool):
    def forward(self, x: Tensor) -> Tensor:
        projected = self.project(x)
        own = [stage for stage in self.stages if isinstance(stage, PyramidStage)]
        plain = all(_is_plain(stage.conv, projected) and _is_depthwise(stage.conv) for stage in own)
        if plain and operators.usable(projected, own[0].conv.weight):
            size = spatial_size(projected)
            inner = [None if stage.scale == 1.0 else Scale(*stage.inner_size(size), stage.scale > 1.0) for stage in own]
            seen = operators.stages(projected, [stage.conv.weight for stage in own], inner)
        else:
            seen = torch.cat([stage(projected) for stage in own], dim=1)
        stages = self.norm(seen)
        conv = self.merge.conv
        if _is_plain(conv, stages) and _is_merge(conv, len(own)) and operators.usable(stages, conv.weight):
            merged = operators.depthwise_merge(stages, conv.weight, len(own))
        else:
            merged = conv(self.shuffle(stages))
        out: Tensor = self.out_norm(self.expand(_normalise(self.merge.bn, self.merge.act, merged)))
        return out


class _Resize(Resize):
    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return operators.resize(x, size) if operators.usable(x) else super().forward(x, size)


_FASTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _Conv2d,
    ConvBN: _ConvBN,
    ConvBNAct: _ConvBNAct,
    BNAct: _BNAct,
    SplitTransformMerge: _SplitTransformMerge,
    EESP: _EESP,
    StridedEESP: _StridedEESP,
    Resize: _Resize,
    EfficientPyramidPool: _EfficientPyramidPool,
}


def _is_plain(conv: nn.Conv2d, x: Tensor) -> bool:
    return conv.bias is None and conv.padding_mode == "zeros" and x.ndim == 4 and x.shape[1] == conv.in_channels


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.padding == conv.dilation
        and conv.stride[0] == conv.stride[1]
        and conv.dilation[0] == conv.dilation[1]
    )


def _is_merge(conv: nn.Conv2d, parts: int) -> bool:
    shape = (conv.groups, parts, 3, 3)
    return conv.weight.shape == shape and conv.padding == conv.stride == conv.dilation == (1, 1)


def _merged(unit: SplitTransformMerge, x: Tensor, act: nn.PReLU | None, residual: Tensor | None) -> Tensor:
    """Reduce, transform, fuse and expand; then residual and activation, if any."""
    reduced = unit.reduce(x)
    branches = [branch for branch in unit.branches if isinstance(branch, nn.Conv2d)]
    plain = all(_is_plain(branch, reduced) and _is_depthwise(branch) for branch in branches)
    if plain and operators.usable(reduced, branches[0].weight):
        fused = operators.depthwise_pyramid(
            reduced, [b.weight for b in branches], [b.dilation[0] for b in branches], branches[0].stride[0]
        )
    elif plain and gpu.usable(reduced, reduced.shape):
        weights = torch.stack([branch.weight[:, 0] for branch in branches])
        fused = gpu.branches(reduced, weights, [b.dilation[0] for b in branches], branches[0].stride[0])
    else:
        outputs: list[Tensor] = [branches[0](reduced)]
        for branch in branches[1:]:
            outputs.append(branch(reduced) + outputs[-1])
        fused = torch.cat(outputs, dim=1)
    return _normalise(unit.expand.bn, act, unit.expand.conv(unit.norm(fused)), residual)


def _activate(act: nn.PReLU, x: Tensor, residual: Tensor | None) -> Tensor:
    if operators.usable(x, act.weight) and _fits(act, x, residual):
        return operators.activation(x, act.weight, residual)
    out: Tensor = act(x if residual is None else x + residual)
    return out


def _normalise(bn: nn.Module, act: nn.PReLU | None, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """Normalise, add the residual, activate. Normalisation across processes keeps its own class."""
    if _is_usual(bn, x) and _fits(act, x, residual) and (not bn.training or operators.rows(x) > 1):
        slope = None if act is None else act.weight
        if operators.usable(x, bn.weight):
            mean, variance = _statistics(bn, x)
            return operators.norm_act(x, bn.weight, bn.bias, mean, variance, bn.eps, slope, residual, batch=bn.training)
        if gpu.usable(x, x.shape):
            mean, variance = _statistics(bn, x)
            made: Tensor = gpu.norm_act(x, bn.weight, bn.bias, mean, variance, bn.eps, slope, residual, bn.training)
            return made
    out: Tensor = bn(x)
    if residual is not None:
        out = out + residual
    return out if act is None else act(out)


def _is_usual(bn: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    complete = type(bn) is nn.BatchNorm2d and bn.affine and bn.track_running_stats and bn.momentum is not None
    return complete and x.ndim == 4 and x.shape[1] == bn.num_features


def _fits(act: nn.Module | None, x: Tensor, residual: Tensor | None) -> bool:
    """Whether there is a slope for every channel, and the residual has the same shape."""
    slopes = act is None or (type(act) is nn.PReLU and x.ndim == 4 and act.num_parameters == x.shape[1])
    return slopes and (residual is None or residual.shape == x.shape)


@torch.no_grad()
def _statistics(bn: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance to normalise by: in training the batch's own, which also move the running ones."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    if not bn.training:
        return bn.running_mean, bn.running_var
    assert bn.num_batches_tracked is not None
    assert bn.momentum is not None
    bn.num_batches_tracked += 1
    if not operators.usable(x, bn.weight):
        mean, variance = torch.batch_norm_update_stats(x, bn.running_mean, bn.running_var, bn.momentum)
        return mean, variance
    mean, variance = operators.moments(x)
    count = operators.rows(x)
    bn.running_mean.lerp_(mean, bn.momentum)
    bn.running_var.lerp_(variance * (count / (count - 1)), bn.momentum)
    return mean, variance
