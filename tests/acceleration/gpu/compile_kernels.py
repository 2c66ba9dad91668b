"""Compile every kernel, for a GPU that need not be there, as the launches of a network ask for it. A program of its own.

``compile_kernels.py 90 bfloat16 channels_last`` is for compute capability 9.0. Prints their names. Run by ``test_programs.py``.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from espnetv2.acceleration.gpu.kernels import branches, convolve, join, normalise, pointwise, resize, stages
from espnetv2.acceleration.gpu.tables import stage_tables
from espnetv2.models.decoders.pyramid import SCALES


class Absent:
    """As much of Triton's driver as compiling asks for."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


def compiled(kernel: Any, grid: tuple[int, ...], _: Tensor, *arguments: Any, **constants: Any) -> None:
    # Only Triton's interpreter needs products widened.
    constants = {name: False if name == "WIDEN" else value for name, value in constants.items()}
    made = kernel.warmup(*arguments, grid=grid, **constants)
    assert made.asm["cubin"]
    print(kernel.fn.__name__)


def main() -> None:
    active: Any = driver
    active.set_active(Absent(int(sys.argv[1])))
    for module in (branches, convolve, join, normalise, pointwise, resize, stages):
        vars(module)["launch"] = compiled
    launch_all(getattr(torch, sys.argv[2]), getattr(torch, sys.argv[3]))


def launch_all(dtype: torch.dtype, layout: torch.memory_format) -> None:
    def maps(channels: int, height: int = 64, width: int = 128) -> Tensor:
        return torch.empty(1, channels, height, width, dtype=dtype).contiguous(memory_format=layout)

    values, weights = torch.empty(512), torch.empty(4, 16, 3, 3)
    branches.middle(maps(16), weights, (1, 2, 3, 4), 1, values, values, values)
    found = branches.branches(maps(16), weights, (1, 1, 2, 3), 2)
    branches.branches_backward(found, maps(16), weights, (1, 1, 2, 3), 2)
    pointwise.pointwise(maps(64), torch.empty(4, 16, 16, dtype=dtype), values, values, maps(64))
    convolve.convolve(maps(3), torch.empty(32, 3, 3, 3), 1, 2, values, values, False)
    tables = list(stage_tables((64, 128), SCALES, torch.device("cpu")))
    stages.stages(maps(10), torch.empty(5, 10, 3, 3), list(SCALES), tables, values, values, values)
    resize.fuse(maps(64), torch.empty(1, 64, 1, 1, dtype=dtype), maps(64, 32, 64), values, values, values)
    resize.classes(maps(20), 128, 256, 19)
    join.join(maps(32), maps(32, 32, 64), maps(64, 32, 64), values)
    normalisation = (values, values, values, values, 1e-5, values)
    normalise.norm_act(maps(64), *normalisation, maps(64), True)
    normalise.norm_act_sums(maps(64), *normalisation, maps(64), maps(64))
    normalise.norm_act_backward(maps(64), *normalisation, None, maps(64), torch.empty(3, 64))


if __name__ == "__main__":
    main()
