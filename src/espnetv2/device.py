"""Choose the device that a network runs on."""

from __future__ import annotations

import re

import torch

from espnetv2.errors import UserError


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or for ``auto`` a CUDA device or else the CPU.

    An Apple GPU must be requested explicitly: these networks are small, the CPU has its own kernels for them, and no such GPU
    was available for tests.

    Raises:
        UserError: no such kind of device, or this machine or this build of torch has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = str(name)
    match = re.fullmatch(r"(cpu|mps|cuda)(?::(\d+))?", name)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        raise UserError(f'no device "{name}": choose auto, cpu, cuda, cuda:N or mps')
    if match[1] == "cuda":
        _check_cuda(name, int(match[2] or 0))
    if match[1] == "mps" and not torch.backends.mps.is_available():
        raise UserError(f'no device "{name}" on this machine: choose auto or cpu')
    return torch.device(name)


def _check_cuda(name: str, index: int) -> None:
    if not torch.cuda.is_available():
        reason = "this build of torch is for the CPU only" if torch.version.cuda is None else "no GPU and driver were found"
        raise UserError(f'no device "{name}" ({reason}): choose auto or cpu')
    if index >= torch.cuda.device_count():
        raise UserError(f'no device "{name}": this machine has {torch.cuda.device_count()}, counted from cuda:0')
