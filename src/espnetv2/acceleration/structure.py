"""Check that a network is still as constructed: the kernels compute that one, regardless of changes to its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from espnetv2.models.classification import ClassificationModel
from espnetv2.models.network import Network
from espnetv2.models.segmentation import SegmentationModel

_FREE = {"training", "p", "eps", "momentum", "inplace"}
"""Settings that do not matter in evaluation, or that the kernels read from the layer."""
_OF_TRAINING = "espnetv2.acceleration.training"
"""Not imported: it brings the GPU's operators, which inference on a CPU does without."""
_FREE_IN_THE_LAST = {"out_features", "out_channels", "dilation"}


def with_usual_layers(network: Network) -> Network:
    """``network`` with the layers that ``accelerate_training`` replaced as they were, in place."""
    for layer in network.modules():
        if type(layer).__module__ == _OF_TRAINING:
            layer.__class__ = type(layer).__bases__[0]
    return network


def change(network: Network) -> str | None:
    """What differs from the network as constructed, or None. The last layer may be replaced by one with other outputs.

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
        if not _is_same(layer, theirs[name], last=name == last):
            return f"{name or 'the network'} is a different layer"
    return None


def _as_made(network: Network) -> Network:
    # Not on the device "meta": initialising there imports all of torch's compiler, which takes seconds.
    with torch.random.fork_rng(devices=[]):
        if isinstance(network, SegmentationModel):
            return SegmentationModel(network.encoder.scale, network.num_classes)
        return ClassificationModel(network.encoder.scale, network.num_classes)


def _is_same(layer: nn.Module, usual: nn.Module, *, last: bool) -> bool:
    free = _FREE | _FREE_IN_THE_LAST if last else _FREE
    return (
        type(layer) is type(usual)
        and all(getattr(layer, name, None) == value for name, value in _settings(usual).items() if name not in free)
        and (last or _shapes(layer) == _shapes(usual))
    )


def _settings(layer: nn.Module) -> dict[str, Any]:
    simple = (bool, int, float, str, tuple, type(None))
    return {name: value for name, value in vars(layer).items() if not name.startswith("_") and isinstance(value, simple)}


def _shapes(layer: nn.Module) -> dict[str, torch.Size | None]:
    own = {**layer._parameters, **layer._buffers}
    return {name: None if tensor is None else tensor.shape for name, tensor in own.items()}
