"""Rewrite a network in fewer and cheaper operations for export; its function stays the same."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from espnetv2.exporting.folding import (
    DEAD,
    LARGEST_SHIFT,
    Bend,
    Scaling,
    Shift,
    activation,
    after_scaling,
    bent,
    scaled,
    with_weights,
)
from espnetv2.exporting.stages import FlatPyramidPool, rewritten_stage
from espnetv2.models.decoders.psp import PSPDecoder
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, PyramidDecoder, PyramidStage
from espnetv2.models.eesp import ImageShortcut, SplitTransformMerge
from espnetv2.models.layers import BNAct, ConvBN, ConvBNAct, affine
from espnetv2.models.network import Network


def rewritten(network: Network, *, prelu: bool, size: tuple[int, int] | None, even: bool = False) -> Network:
    """A network without normalisation, equal to ``network`` in evaluation mode up to rounding.

    Normalisation and the scales of activations move into the convolutions around them, even across a concatenation or a sum;
    each pyramid stage becomes an enlargement and one convolution.

    Args:
        network: in evaluation mode; it is not modified.
        prelu: keep PReLU, for a runtime that has a fast one; otherwise it becomes a maximum.
        size: height and width of the image, if fixed, which allows cheaper operations.
        even: keep channels that are normalised together at an even scale, as quantisation requires.
    """
    made = copy.deepcopy(network).requires_grad_(False).eval()
    _Rewriter(prelu=prelu, size=size, even=even).rewrite(made)
    return made


class _Merged(NamedTuple):
    """The rewritten normalisation and activation of a sum."""

    offset: Tensor
    """Added to the sum, float64 (C,)."""
    act: nn.Module
    factor: Tensor
    """What the next 1x1 convolution scales its input by ..."""
    constant: Tensor
    """... and adds to it."""


class _Rewriter:
    """Replaces layers with their rewritten form, in place."""

    def __init__(self, *, prelu: bool, size: tuple[int, int] | None, even: bool) -> None:
        self.prelu = prelu
        self.size = size
        self.even = even

    def rewrite(self, module: nn.Module) -> None:
        """Replace everything below ``module``."""
        if isinstance(module, SplitTransformMerge):
            self._transform(module)
        if isinstance(module, ImageShortcut):
            mix, project = self._chain(module.mix, self._plain(module.project))
            _replace(module, mix=mix, project=project)
        if isinstance(module, PyramidDecoder):
            self._decoder(module)
        if isinstance(module, PSPDecoder):
            self._psp(module)
        for name, child in module.named_children():
            setattr(module, name, self._layer(child))

    def _layer(self, layer: nn.Module) -> nn.Module:
        if isinstance(layer, ConvBNAct):
            return nn.Sequential(self._plain(layer), activation(layer.act.weight, prelu=self.prelu))
        if isinstance(layer, ConvBN):
            return self._plain(layer)
        if isinstance(layer, BNAct):
            return nn.Sequential(Scaling(*affine(layer.bn)), activation(layer.act.weight, prelu=self.prelu))
        if isinstance(layer, nn.PReLU):
            return activation(layer.weight, prelu=self.prelu)
        self.rewrite(layer)
        return layer

    def _plain(self, layer: ConvBN | ConvBNAct) -> nn.Conv2d:
        return scaled(layer.conv, *affine(layer.bn))

    def _bent(self, conv: nn.Conv2d, slope: Tensor) -> tuple[nn.Conv2d, nn.Module, Tensor]:
        """A convolution and its PReLU, and the sign that remains for the next layer."""
        slope = slope.detach().double()
        line = bent(slope, prelu=self.prelu)
        return scaled(conv, line.before), Bend(None, line.slope, prelu=self.prelu), line.after

    def _chain(self, first: ConvBNAct, second: nn.Conv2d) -> tuple[nn.Module, nn.Conv2d]:
        """Two layers of which only the second sees the first."""
        conv, act, sign = self._bent(self._plain(first), first.act.weight)
        return nn.Sequential(conv, act), after_scaling(second, sign)

    def _transform(self, unit: SplitTransformMerge) -> None:
        conv, act, sign = self._bent(self._plain(unit.reduce), unit.reduce.act.weight)
        expand = self._plain(unit.expand)
        merged = self._merged(unit.norm)
        branches = [branch for branch in unit.branches if isinstance(branch, nn.Conv2d)]
        width = branches[0].out_channels
        # Each sum includes the one before it, and so already has that one's offset.
        offsets = torch.zeros(len(branches) + 1, width, dtype=torch.float64)
        offsets[1:] = merged.offset.reshape(len(branches), width)
        folded = nn.ModuleList(
            scaled(after_scaling(branch, sign), torch.ones_like(sign), offsets[index + 1] - offsets[index])
            for index, branch in enumerate(branches)
        )
        expand = after_scaling(expand, merged.factor, merged.constant)
        _replace(unit, reduce=nn.Sequential(conv, act), branches=folded, norm=merged.act, expand=expand)

    def _merged(self, norm: BNAct) -> _Merged:
        scale, shift = affine(norm.bn)
        slope = norm.act.weight.detach().double()
        one, zero = torch.ones_like(scale), torch.zeros_like(scale)
        dead = scale.abs() < DEAD
        offset = torch.where(dead, zero, shift / torch.where(dead, one, scale))
        rising = scale > 0
        above, below = torch.where(rising, scale, slope * scale), torch.where(rising, slope * scale, scale)
        above, below = torch.where(dead, zero, above), torch.where(dead, zero, below)
        steep = self.prelu & (below.abs() > LARGEST_SHIFT * above.abs())
        if self.even or bool((offset.abs() > LARGEST_SHIFT).any() or steep.any()):
            return _Merged(zero, self._layer(norm), one, zero)
        constant = torch.where(dead, torch.where(shift > 0, shift, slope * shift), zero)
        # A sum cannot be scaled beforehand: other branches share it.
        sign = one if self.prelu else torch.where(above >= below, one, -one)
        above, below = above * sign, below * sign
        normal = (above != 0) if self.prelu else (above > 0)
        factor = torch.where(normal, above, one)
        flat = ~normal & (below == 0)
        first = None if bool((normal | flat).all()) else torch.where(normal, one, above)
        act = Bend(first, below / factor, prelu=self.prelu)
        return _Merged(offset, act, torch.where(dead, zero, factor * sign), constant)

    def _psp(self, decoder: PSPDecoder) -> None:
        dropout, conv = decoder.classify3
        assert isinstance(conv, nn.Conv2d)
        norm = decoder.norm3
        classify = nn.Sequential(dropout, scaled(conv, *affine(norm.bn)))
        _replace(decoder, classify3=classify, norm3=activation(norm.act.weight, prelu=self.prelu))

    def _decoder(self, decoder: PyramidDecoder) -> None:
        before = decoder.pool4
        for level, fuse, pool in (
            (3, decoder.fuse3, decoder.pool3),
            (2, decoder.fuse2, decoder.pool2),
            (1, decoder.fuse1, decoder.pool1),
        ):
            merged = self._merged(fuse)
            setattr(decoder, f"fuse{level}", merged.act)
            pool.project.conv = after_scaling(pool.project.conv, merged.factor, merged.constant)
            # Resizing keeps constants: they are added where the map is still small.
            self._replace_pool(decoder, before, level + 1, Shift(merged.offset))
            before = pool
        self._replace_pool(decoder, before, 1, nn.Identity())

    def _replace_pool(self, decoder: PyramidDecoder, pool: EfficientPyramidPool, level: int, then: nn.Module) -> None:
        size = None if self.size is None else (_pooled(self.size[0], level), _pooled(self.size[1], level))
        setattr(decoder, f"pool{level}", self._pool(pool, size, then))

    def _pool(self, pool: EfficientPyramidPool, size: tuple[int, int] | None, then: nn.Module) -> FlatPyramidPool:
        conv, act, sign = self._bent(self._plain(pool.project), pool.project.act.weight)
        project = nn.Sequential(conv, act)
        slope = pool.norm.act.weight.detach().double()
        line = bent(slope, prelu=self.prelu)
        scale, shift = affine(pool.norm.bn)
        scale, shift = scale * line.before, shift * line.before
        merge, act, merge_sign = self._bent(self._plain(pool.merge), pool.merge.act.weight)
        stages = [stage for stage in pool.stages if isinstance(stage, PyramidStage)]
        width = stages[0].conv.out_channels
        branches = []
        for index, stage in enumerate(stages):
            own = slice(index * width, (index + 1) * width)
            # Resizing keeps constants, so each stage's share of the normalisation fits into its own convolution.
            stage.conv = scaled(after_scaling(stage.conv, sign), scale[own], shift[own])
            share = merge.weight[:, index : index + 1].double() * line.after[own][:, None, None, None]
            assert merge.bias is not None
            bias = merge.bias if index == 0 else torch.zeros(width)
            bend = Bend(None, line.slope[own], prelu=self.prelu)
            branches.append(nn.Sequential(rewritten_stage(stage, size), bend, with_weights(stage.conv, share, bias)))
        expand = after_scaling(pool.expand, merge_sign)
        if not isinstance(pool.out_norm, BNAct):
            return FlatPyramidPool(project, branches, nn.Sequential(act, expand))
        expand = scaled(expand, *affine(pool.out_norm.bn))
        last = activation(pool.out_norm.act.weight, prelu=self.prelu)
        return FlatPyramidPool(project, branches, nn.Sequential(act, expand, last, then))


def _replace(module: nn.Module, **children: nn.Module) -> None:
    for name, child in children.items():
        setattr(module, name, child)


def _pooled(side: int, level: int) -> int:
    return math.ceil(side / (1 << level))
