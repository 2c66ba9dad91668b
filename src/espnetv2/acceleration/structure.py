"""Whether a network is still as its constructor makes it: the kernels compute that one, whatever has become of its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from espnetv2.models.classification import ClassificationModel
from espnetv2.models.network import Network
from espnetv2.models.segmentation import SegmentationModel

_FREE = {"training", "p", "eps", "momentum", "inplace"}
"""Settings that do not matter in evaluation, or that the kernels take from the layer."""
_FASTER = "espnetv2.acceleration.training"


def change(network: Network) -> str | None:
    """What is unlike the network as it was made, or None. The last layer may be another of its kind, with other outputs.

    Args:
        network: for classification, or segmentation with the decoder "pyramid".
    """
    usual = _as_made(network)
    last = "classifier" if isinstance(network, ClassificationModel) else "decoder.pool1.expand"
    ours, theirs = dict(network.named_modules()), dict(usual.named_modules())
    if strange := sorted(ours.keys() ^ theirs.keys()):
        return f"{strange[0]} was added or removed"
    for name, layer in ours.items():
        if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
            return f"{name or 'the network'} has a hook or a forward of its own"
        same = _is_plain_last(layer, theirs[name]) if name == last else _is_same(layer, theirs[name])
        if not same:
            return f"{name} is another layer"
    return None


def _as_made(network: Network) -> Network:
    # Not on the device "meta": initialising there imports the whole of torch's compiler, which takes seconds.
    with torch.random.fork_rng(devices=[]):
        if isinstance(network, SegmentationModel):
            return SegmentationModel(network.encoder.scale, network.num_classes)
        return ClassificationModel(network.encoder.scale, network.num_classes)


def _is_same(layer: nn.Module, usual: nn.Module) -> bool:
    kind, wanted = type(layer), type(usual)
    faster = kind.__module__ == _FASTER and kind.__bases__ == (wanted,)
    return (
        (kind is wanted or faster)
        and all(getattr(layer, name, None) == value for name, value in _settings(usual).items())
        and _shapes(layer) == _shapes(usual)
    )


def _settings(layer: nn.Module) -> dict[str, Any]:
    simple = (bool, int, float, str, tuple, type(None))
    return {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name not in _FREE and isinstance(value, simple)
    }


def _shapes(layer: nn.Module) -> dict[str, torch.Size | None]:
    own = {**layer._parameters, **layer._buffers}
    return {name: None if tensor is None else tensor.shape for name, tensor in own.items()}


def _is_plain_last(layer: nn.Module, usual: nn.Module) -> bool:
    if isinstance(usual, nn.Linear):
        return type(layer) is nn.Linear and layer.in_features == usual.in_features
    assert isinstance(usual, nn.Conv2d)
    faster = type(layer).__module__ == _FASTER
    return (
        isinstance(layer, nn.Conv2d)
        and (type(layer) is nn.Conv2d or faster)
        and layer.in_channels == usual.in_channels
        and all(getattr(layer, name) == getattr(usual, name) for name in ("kernel_size", "stride", "padding", "groups"))
        and layer.padding_mode == usual.padding_mode
    )
