"""How many processor cores there are to use. Nothing here needs torch."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use: containers, job schedulers and ``taskset`` may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
