"""The backends that can run a network, by name."""

from __future__ import annotations

import importlib.util
from typing import Literal, get_args

from espnetv2.errors import UserError, nearest

Backend = Literal["auto", "eager", "streams", "graphs", "compile", "fused"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
_ANYWHERE = ("auto", "eager")
_OF_TRITON = ("compile", "fused")


def check_backend(name: str, device: str) -> Backend:
    """The backend called ``name``.

    Args:
        name: of the backend.
        device: kind of device that the network is on.

    Raises:
        UserError: there is no such backend, it does not support this device, or Triton is missing.
    """
    found = next((backend for backend in BACKENDS if backend == name), None)
    if found is None:
        raise UserError(f'no backend "{name}": {nearest(name, BACKENDS)}')
    if found not in _ANYWHERE and device != "cuda":
        raise UserError(f'the backend "{name}" is for a GPU, but the network is on "{device}": choose auto or eager')
    if found in _OF_TRITON and importlib.util.find_spec("triton") is None:
        raise UserError(
            f'the backend "{name}" requires the package triton, which is not installed: install it, or choose graphs'
        )
    return found
