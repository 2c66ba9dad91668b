"""Whether the kernels work on the GPU at hand, found out before a training run relies on them."""

from __future__ import annotations

import torch
from torch import Tensor

from espnetv2.acceleration.compiler import KernelsUnavailableError
from espnetv2.acceleration.gpu import reference
from espnetv2.acceleration.gpu.choose import one_line
from espnetv2.acceleration.gpu.normalise import moments, norm_act
from espnetv2.acceleration.gpu.operators import branches, has_triton

_DILATIONS = [1, 1, 2, 3]
_CLOSE = 1e-4


def check_training_kernels(device: torch.device) -> None:
    """Run an EESP unit's middle forwards and backwards on a GPU, against plain PyTorch in double precision.

    Raises:
        KernelsUnavailableError: no Triton, it fails here, or the results differ.
    """
    if not has_triton():
        raise KernelsUnavailableError("the package triton is not installed")
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator) for shape in ((2, 8, 13, 17), (4, 8, 3, 3), (32,), (32,), (32,))]
    # Whatever a compiler or a driver may raise, training can do without.
    try:
        found = _step([value.to(device) for value in given])
    except Exception as error:
        raise KernelsUnavailableError(f"Triton's kernels fail on this GPU ({one_line(error)})") from error
    for ours, theirs in zip(found, _step([value.double() for value in given]), strict=True):
        if not float((ours.cpu() - theirs).norm() / theirs.norm()) < _CLOSE:
            raise KernelsUnavailableError("Triton's kernels give wrong results on this GPU")


def _step(given: list[Tensor]) -> list[Tensor]:
    x, weight, gamma, beta, slope = (value.requires_grad_() for value in given)
    on_gpu = x.device.type == "cuda"
    fused = (branches if on_gpu else reference.branches)(x, weight, _DILATIONS, 1)
    with torch.no_grad():
        mean, inverse = moments(fused, 1e-5)
    out = norm_act(fused, gamma, beta, mean, inverse, slope, None, batch=True)
    gradients = torch.autograd.grad((out * out).sum() + out.sum(), [x, weight, gamma, beta, slope])
    return [out.detach(), *gradients]
