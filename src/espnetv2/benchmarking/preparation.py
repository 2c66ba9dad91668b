"""Everything before timing: contenders are loaded, built on their backends, checked, and their costs counted."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espnetv2.benchmarking.agreement import Array, as_array, check_answer
from espnetv2.benchmarking.backends import BACKENDS, Backend, Subject, find_backend
from espnetv2.benchmarking.contenders import Contender, find_contender, random_image, settled
from espnetv2.benchmarking.costs import costs
from espnetv2.benchmarking.memory import Request, measure_memory
from espnetv2.benchmarking.report import Memory, Refusal
from espnetv2.benchmarking.runtimes import plain_onnx_run
from espnetv2.benchmarking.timing import WARM_UP, Run
from espnetv2.errors import UserError

DEFAULT_BACKENDS = {
    "cpu": ("accelerated", "eager", "onnxruntime", "openvino"),
    "cuda": ("accelerated", "eager", "compile"),
    "mps": ("eager",),
}
"""Runtimes only if installed."""

Progress = Callable[[str, int, int], None]
"""Called with the stage, the number of steps done, and the total."""

CHOOSING = "espnetv2.acceleration.gpu.choose"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditions:
    """Settings that all contenders of a run share."""

    device: torch.device
    threads: int
    size: tuple[int, int] | None
    batch: int
    weights_dir: str | None
    folder: Path


@dataclass(frozen=True)
class Entry:
    """A contender on a backend, whose output has been checked."""

    contender: Contender
    backend: str
    run: Run
    checked: str
    """What its output was compared with."""
    costs: dict[str, int | None]
    """By the names of the report's fields."""
    memory: Memory | None


@dataclass
class Lineup:
    """The contenders of a run, and those that were refused."""

    conditions: Conditions
    entries: list[Entry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def prepare(self, names: Sequence[str], backends: Sequence[str], progress: Progress) -> None:
        """Add every network on every backend that suits it; ``backends`` may be empty for the default ones."""
        chosen = self._backends(backends or _default_backends(self.conditions.device))
        unique = list(dict.fromkeys(names))
        total = len(unique) * len(chosen)
        for number, name in enumerate(unique):
            progress(f"preparing {name}", number * len(chosen), total)
            if chosen and (candidate := self._candidate(name)) is not None:
                for step, backend in enumerate(self._suited(candidate.contender, chosen)):
                    progress(f"preparing {name} on {backend}", number * len(chosen) + step, total)
                    self._enter(candidate, backend)

    def _suited(self, contender: Contender, backends: dict[str, Backend]) -> list[str]:
        suited = [name for name, backend in backends.items() if backend.takes(contender)]
        if not suited:
            self._refuse(contender.name, None, UserError(f"none of the backends {', '.join(backends)} can run it"))
        return suited

    def _backends(self, names: Sequence[str]) -> dict[str, Backend]:
        found = {name: self._backend(name) for name in names}
        return {name: backend for name, backend in found.items() if backend is not None}

    def _backend(self, name: str) -> Backend | None:
        try:
            return find_backend(name, self.conditions.device)
        except UserError as error:
            self._refuse(None, name, error)
            return None

    def _candidate(self, name: str) -> _Candidate | None:
        try:
            return _Candidate.load(name, self.conditions)
        except Exception as error:
            self._refuse(name, None, error)
            return None

    def _enter(self, candidate: _Candidate, backend: str) -> None:
        try:
            run = BACKENDS[backend].make(candidate.subject)
            with torch.inference_mode():
                _check(run, candidate.wanted)
        except Exception as error:
            self._refuse(candidate.contender.name, backend, error)
            return
        memory = _memory(candidate.subject, backend, self.conditions)
        self.entries.append(Entry(candidate.contender, backend, run, candidate.checked, candidate.costs, memory))

    def _refuse(self, network: str | None, backend: str | None, error: Exception) -> None:
        # A third-party package can fail anywhere; the other rows are still worth having.
        text = " ".join(str(error).split())
        reason = text if isinstance(error, UserError) else f"it failed ({type(error).__name__}: {text[:200]})"
        log.debug("refused: %s on %s", network, backend, exc_info=error)
        self.refused.append(Refusal(network=network, backend=backend, reason=reason))


@dataclass(frozen=True)
class _Candidate:
    """A contender that runs, with the expected output and its costs."""

    contender: Contender
    subject: Subject
    wanted: Array | None
    checked: str
    costs: dict[str, int | None]

    @classmethod
    def load(cls, name: str, conditions: Conditions) -> _Candidate:
        contender = settled(find_contender(name, conditions.size, conditions.batch, conditions.weights_dir))
        image = random_image(conditions.batch, contender.size)
        wanted, checked = _reference(contender, image)
        folder = Path(tempfile.mkdtemp(dir=conditions.folder))
        subject = Subject(contender, image.to(conditions.device), conditions.threads, folder)
        return cls(contender, subject, wanted, checked, costs(contender))


def _default_backends(device: torch.device) -> list[str]:
    return [name for name in DEFAULT_BACKENDS[device.type] if not BACKENDS[name].file or find_spec(name) is not None]


def _reference(contender: Contender, image: Tensor) -> tuple[Array | None, str]:
    """The expected output for the image, and its origin."""
    if contender.graph is not None:
        with torch.inference_mode():
            return as_array(contender.graph(image)), "torch's own operators on the CPU"
    itself = "the output is finite and the same twice"
    if contender.file is not None and b"QuantizeLinear" in contender.file.read_bytes():
        return None, f"itself only, since every runtime rounds to 8 bits in its own way: {itself}"
    if contender.file is not None and contender.file.suffix.lower() == ".onnx" and find_spec("onnxruntime") is not None:
        return as_array(plain_onnx_run(contender.file, image.numpy())()), "ONNX Runtime without optimisations"
    return None, f"itself only: {itself}"


def _check(run: Run, wanted: Array | None) -> None:
    with _own_warnings() as warnings:
        answers = [as_array(run()) for _ in range(WARM_UP)]
    if warnings:
        raise UserError(f"it did not run as requested: {warnings[0]}")
    if not all(np.isfinite(answer).all() for answer in answers):
        raise UserError("wrong output: it is not finite")
    for answer in answers:
        check_answer(answer, answers[0] if wanted is None else wanted)


@contextmanager
def _own_warnings() -> Iterator[list[str]]:
    """Warnings of the accelerated networks during the block, which mean that torch's own operators took over."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # One of several candidates may fail while another is chosen.
            if record.name != CHOOSING:
                found.append(record.getMessage())

    logger, handler = logging.getLogger("espnetv2.acceleration"), Keep(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _memory(subject: Subject, backend: str, conditions: Conditions) -> Memory | None:
    request = Request(
        name=subject.contender.name,
        backend=backend,
        size=subject.contender.size,
        batch=conditions.batch,
        threads=conditions.threads,
        device=str(conditions.device),
        weights_dir=conditions.weights_dir,
        file=str(subject.exported()) if BACKENDS[backend].file else None,
    )
    try:
        return measure_memory(request)
    except UserError as error:
        log.warning("memory of %s on %s was not measured: %s", subject.contender.name, backend, error)
        return None
