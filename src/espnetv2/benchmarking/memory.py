"""Peak memory of one contender, measured in its own process, so that no other contender affects it.

``python -m espnetv2.benchmarking.memory`` is that process: it reads a request from standard input and writes the answer to
standard output, both as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from espnetv2.benchmarking.report import Memory
from espnetv2.errors import UserError

if TYPE_CHECKING:
    from espnetv2.benchmarking.timing import Run

CALLS = 3
TIMEOUT_S = 1800
_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


class Request(BaseModel):
    """The contender to run, and how."""

    name: str
    backend: str
    size: tuple[int, int]
    batch: int
    threads: int
    device: str
    weights_dir: str | None = None
    file: str | None = None
    """Exported file for a runtime: the process then neither needs nor loads torch."""


def measure_memory(request: Request) -> Memory:
    """Peak memory while the contender runs.

    Raises:
        UserError: this system does not report it, or the process failed.
    """
    if not _FORGET.exists():
        raise UserError("peak memory is read from Linux's /proc, which this system does not have")
    command = [sys.executable, "-m", "espnetv2.benchmarking.memory"]
    try:
        done = subprocess.run(command, input=request.model_dump_json(), capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"its process took more than {TIMEOUT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"its process failed: {last}")
    return Memory(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Answer the request on standard input."""
    request = Request.model_validate_json(sys.stdin.read())
    answer = _on_file(request) if request.file is not None and request.device == "cpu" else _on_torch(request)
    print(answer.model_dump_json())


def _on_file(request: Request) -> Memory:
    import numpy as np

    from espnetv2.benchmarking.runtimes import FILE_RUNS

    image = np.random.default_rng(0).standard_normal((request.batch, 3, *request.size), np.float32)
    assert request.file is not None
    run = FILE_RUNS[request.backend](Path(request.file), image, request.threads)
    return _watched(run)


def _on_torch(request: Request) -> Memory:
    import torch

    from espnetv2.benchmarking.backends import BACKENDS, Subject
    from espnetv2.benchmarking.contenders import find_contender, random_image

    torch.set_num_threads(request.threads)
    device = torch.device(request.device)

    def load() -> Run:
        # What is no longer needed when the run is made, such as a second copy of the weights, is freed with this function.
        contender = find_contender(request.name, request.size, request.batch, request.weights_dir)
        image = random_image(request.batch, request.size).to(device)
        folder = Path(request.file).parent if request.file is not None else Path()
        return BACKENDS[request.backend].make(Subject(contender, image, request.threads, folder))

    run = load()
    with torch.inference_mode():
        if device.type != "cuda":
            return _watched(run)
        found = _watched(run, lambda: torch.cuda.reset_peak_memory_stats(device))
    # Runtimes have allocators of their own, which torch does not know about.
    counted = not BACKENDS[request.backend].file
    return found.model_copy(update={"device_bytes": torch.cuda.max_memory_allocated(device) if counted else None})


def _watched(run: Run, forget: Callable[[], None] = lambda: None) -> Memory:
    before = _kilobytes("VmRSS")
    for _ in range(CALLS):
        run()
    forget()
    _FORGET.write_text("5", "ascii")  # the kernel's code for "reset the peak"
    for _ in range(CALLS):
        run()
    peak = _kilobytes("VmHWM")
    return Memory(resident_bytes=1024 * peak, beyond_loading_bytes=1024 * max(0, peak - before))


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()
