"""Full float32 precision: torch's own convolutions use TF32 on newer GPUs unless told not to."""

from __future__ import annotations

import threading
from typing import Any

import torch


class WithoutTF32:
    """Within the block, float32 convolutions keep full precision. Matrix products do so unless TF32 was requested.

    The setting is global to all threads: the first to enter changes it, the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [kind.fp32_precision for kind in _kinds()]
                _set(["ieee"] * len(self._before))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _set(self._before)


without_tf32 = WithoutTF32()


def _kinds() -> tuple[Any, Any]:
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn


def _set(values: list[str]) -> None:
    # The older switch, for code that reads it: it must agree with the others, or reading it is an error.
    torch.backends.cudnn.allow_tf32 = "tf32" in values
    for kind, value in zip(_kinds(), values, strict=True):
        kind.fp32_precision = value
