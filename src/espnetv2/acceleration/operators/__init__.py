"""Differentiable operators of the network's training step, computed by the kernels on channels-last float32 tensors."""

from espnetv2.acceleration.operators.calling import is_traced, rows, usable
from espnetv2.acceleration.operators.convolutions import depthwise_merge, depthwise_pyramid, pointwise
from espnetv2.acceleration.operators.losses import cross_entropy, soft_overlap
from espnetv2.acceleration.operators.normalisation import activation, moments, norm_act
from espnetv2.acceleration.operators.scales import resize, stages

__all__ = [
    "activation",
    "cross_entropy",
    "depthwise_merge",
    "depthwise_pyramid",
    "is_traced",
    "moments",
    "norm_act",
    "pointwise",
    "resize",
    "rows",
    "soft_overlap",
    "stages",
    "usable",
]
