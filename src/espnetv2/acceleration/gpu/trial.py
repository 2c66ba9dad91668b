"""Check that the kernels work on this GPU, before a training run relies on them."""

from __future__ import annotations

import torch
from torch import Tensor

from espnetv2.acceleration.compiler import KernelsUnavailableError
from espnetv2.acceleration.gpu import reference
from espnetv2.acceleration.gpu.operators import branches, has_triton, norm_act
from espnetv2.errors import kind_and_first_line

_DILATIONS = [1, 1, 2, 3]
_EPS = 1e-5
_KINDS = ((torch.float32, torch.contiguous_format, 1e-4), (torch.float16, torch.channels_last, 2e-2))
"""Types that every GPU supports, the layouts of training runs, and the tolerated relative error."""


def check_training_kernels(device: torch.device) -> None:
    """Run the middle of an EESP unit forward and backward on a GPU, and compare with plain PyTorch in double precision.

    Raises:
        KernelsUnavailableError: no Triton, it fails here, or the results differ.
    """
    if not has_triton():
        raise KernelsUnavailableError("the package triton is not installed")
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator) for shape in ((2, 8, 13, 17), (4, 8, 3, 3), (32,), (32,), (32,))]
    wanted = _step([value.double() for value in given])
    for dtype, layout, close in _KINDS:
        x = given[0].to(device, dtype).contiguous(memory_format=layout)
        # Whatever a compiler or a driver raises, training works without the kernels.
        try:
            found = _step([x, *(value.to(device) for value in given[1:])])
        except Exception as error:
            raise KernelsUnavailableError(f"Triton's kernels fail on this GPU ({kind_and_first_line(error)})") from error
        for ours, theirs in zip(found, wanted, strict=True):
            if not float((ours.cpu() - theirs).norm() / theirs.norm()) < close:
                raise KernelsUnavailableError("Triton's kernels give wrong results on this GPU")


def _step(given: list[Tensor]) -> list[Tensor]:
    x, weight, gamma, beta, slope = (value.requires_grad_() for value in given)
    on_gpu = x.device.type == "cuda"
    fused = (branches if on_gpu else reference.branches)(x, weight, _DILATIONS, 1)
    seen = fused.detach().to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(seen, (0, 2, 3), correction=0)
    out = norm_act(fused, gamma, beta, mean, variance, _EPS, slope, None, True)
    wide = out.to(gamma.dtype)
    gradients = torch.autograd.grad((wide * wide).mean() + wide.mean(), [x, weight, gamma, beta, slope])
    return [out.detach(), *gradients]
