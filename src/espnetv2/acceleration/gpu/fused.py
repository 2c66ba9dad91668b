"""A network of fused operators: the same data flow, with its layers replaced one by one."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from espnetv2.acceleration.gpu import operators
from espnetv2.acceleration.gpu.layers import Convolve, Middle, Pointwise, affine
from espnetv2.acceleration.gpu.operators import KERNEL_TYPES
from espnetv2.acceleration.gpu.tables import StageTables, stage_tables
from espnetv2.models.decoders.pyramid import EfficientPyramidPool, GatedProjection, PyramidDecoder, PyramidStage
from espnetv2.models.eesp import EESP, SplitTransformMerge, StridedEESP
from espnetv2.models.layers import BNAct, ConvBNAct, spatial_size
from espnetv2.models.network import Network

_TABLES_KEPT = 64


class FusedNetwork(nn.Module):
    """The function of a network in fewer, larger operators, for one type and device.

    Maps are NCHW regardless of the layout of the image: the branches have 4 to 32 channels, and a row of pixels fills a memory
    transaction, which so few channels would not.

    Args:
        network: in evaluation mode; it is copied.
        winners: None for logits; otherwise a segmentation network outputs a class map, and this many outputs are classes.

    Raises:
        ValueError: a layer or the type has no fused form.
    """

    def __init__(self, network: Network, winners: int | None = None) -> None:
        super().__init__()
        if next(network.parameters()).dtype not in KERNEL_TYPES:
            raise ValueError("the operators compute in float32: there is no fused form of a float64 network")
        self._tables = _Tables()
        self.gives_classes = winners is not None and isinstance(getattr(network, "decoder", None), PyramidDecoder)
        """Whether the output is a class map instead of logits."""
        self.network = _replaced(copy.deepcopy(network), self._tables, winners)

    def forward(self, image: Tensor) -> Tensor:
        """As for the network; for the decoder "pyramid" with ``winners``, the class map (N, H, W), uint8."""
        out: Tensor = self.network(image.contiguous())
        return out

    def held(self) -> object:
        """Memory outside the network that earlier calls may have read; a caller that replays them must keep it."""
        return list(self._tables.values())


class _Tables(OrderedDict[tuple[int, int], StageTables]):
    """The most recently used tables, by the size of the map."""

    def at(self, size: tuple[int, int], scales: Sequence[float], device: torch.device) -> StageTables:
        found = self.pop(size, None) or stage_tables(size, scales, device)
        self[size] = found
        while len(self) > _TABLES_KEPT:
            self.popitem(last=False)
        return found


def _replaced(module: nn.Module, tables: _Tables, winners: int | None) -> nn.Module:
    if isinstance(module, PyramidDecoder):
        return _Decoder(module, tables, winners)
    make = _FUSED.get(type(module))
    if make is not None:
        return make(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, tables, winners))
    return module


def _convolution(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, ConvBNAct)
    conv = layer.conv
    if conv.kernel_size == (1, 1):
        return Pointwise(conv, layer.bn, layer.act)
    if conv.groups == conv.in_channels == conv.out_channels:
        return Middle([conv], layer.bn, layer.act)
    return Convolve(conv, layer.bn, layer.act)


class _Transform(nn.Module):
    def __init__(self, unit: nn.Module, act: nn.Module | None) -> None:
        super().__init__()
        assert isinstance(unit, SplitTransformMerge)
        self.reduce = _convolution(unit.reduce)
        self.middle = Middle(list(unit.branches), unit.norm.bn, unit.norm.act)
        self.expand = Pointwise(unit.expand.conv, unit.expand.bn, act)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out: Tensor = self.expand(self.middle(self.reduce(x)), residual)
        return out


class _EESP(nn.Module):
    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        assert isinstance(unit, EESP)
        self.transform, self.residual = _Transform(unit, unit.act), unit.residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.transform(x, x if self.residual else None)
        return out


class _StridedEESP(nn.Module):
    slope: Tensor

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        assert isinstance(unit, StridedEESP)
        self.transform = _Transform(unit.eesp, None)
        self.shortcut: nn.Module | None = None
        if unit.shortcut is not None:
            project = unit.shortcut.project
            self.shortcut = nn.Sequential(_convolution(unit.shortcut.mix), Pointwise(project.conv, project.bn, None))
        self.register_buffer("slope", unit.act.weight.detach().float())

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        shortcut = None if self.shortcut is None else self.shortcut(image)
        out: Tensor = operators.join(x, self.transform(x), shortcut, self.slope)
        return out


class _Pool(nn.Module):
    weight: Tensor
    scale: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, pool: EfficientPyramidPool, tables: _Tables) -> None:
        super().__init__()
        self.project = _convolution(pool.project)
        own = [stage for stage in pool.stages if isinstance(stage, PyramidStage)]
        self.scales, self.tables = [stage.scale for stage in own], tables
        self.register_buffer("weight", torch.stack([stage.conv.weight.detach()[:, 0].float() for stage in own]))
        for name, values in zip(("scale", "shift", "slope"), affine(pool.norm.bn, pool.norm.act), strict=True):
            self.register_buffer(name, values)
        self.merge = Convolve(pool.merge.conv, pool.merge.bn, pool.merge.act, shuffled=True)
        last = pool.out_norm
        self.expand = (
            Pointwise(pool.expand, last.bn, last.act) if isinstance(last, BNAct) else Pointwise(pool.expand, None, None)
        )

    def forward(self, x: Tensor) -> Tensor:
        projected = self.project(x)
        tables = self.tables.at(spatial_size(projected), self.scales, projected.device)
        seen = operators.stages(projected, self.weight, self.scales, list(tables), self.scale, self.shift, self.slope)
        out: Tensor = self.expand(self.merge(seen))
        return out


class _Fuse(nn.Module):
    """A skip's gated features plus the coarser level, normalised and activated."""

    scale: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, skip: GatedProjection, norm: BNAct) -> None:
        super().__init__()
        self.expand, self.gate = _convolution(skip.expand), Pointwise(skip.gate, None, None)
        for name, values in zip(("scale", "shift", "slope"), affine(norm.bn, norm.act), strict=True):
            self.register_buffer(name, values)

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(level.mean(dim=(2, 3), keepdim=True)))
        out: Tensor = operators.fuse(self.expand(level), gate, below, self.scale, self.shift, self.slope)
        return out


class _Decoder(nn.Module):
    def __init__(self, decoder: PyramidDecoder, tables: _Tables, winners: int | None) -> None:
        super().__init__()
        self.winners, self.resize = winners, decoder.resize
        pools = (decoder.pool4, decoder.pool3, decoder.pool2, decoder.pool1)
        fuses = ((decoder.skip3, decoder.fuse3), (decoder.skip2, decoder.fuse2), (decoder.skip1, decoder.fuse1))
        self.pools = nn.ModuleList(_Pool(pool, tables) for pool in pools)
        self.fuses = nn.ModuleList(_Fuse(skip, norm) for skip, norm in fuses)

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]) -> Tensor:
        level1, level2, level3, level4 = features
        out: Tensor = self.pools[0](level4)
        for fuse, pool, level in zip(self.fuses, self.pools[1:], (level3, level2, level1), strict=True):
            out = pool(fuse(level, out))
        if self.winners is None:
            logits: Tensor = self.resize(out, size)
            return logits
        classes: Tensor = operators.classes(out, *size, self.winners)
        return classes


_FUSED: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {
    ConvBNAct: _convolution,
    EESP: _EESP,
    StridedEESP: _StridedEESP,
}
