"""What a benchmark answers. Its JSON document is these classes, field by field."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from espnetv2.models.registry import Task

Answer = Literal["logits", "class map"]
Metric = Literal["top1", "miou"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Part):
    """Something that could spoil a measurement, looked at."""

    name: str
    passed: bool | None
    """None where this machine cannot tell."""
    detail: str


class Machine(_Part):
    """Where, with what and under which conditions was measured."""

    processor: str
    cores: int
    """Those that this process may use."""
    memory_bytes: int
    system: str
    device: str
    threads: int
    clock: str
    versions: dict[str, str]
    checks: tuple[Check, ...]


class Accuracy(_Part):
    """How good the network is with certain weights."""

    metric: Metric
    percent: float
    dataset: str
    weights: str
    size: str
    """Input size at which it holds, WIDTHxHEIGHT."""
    origin: str
    """Who says so."""


class Latency(_Part):
    """Duration of a call, after warming up, until the answer is there."""

    median_ms: float
    p95_ms: float
    spread_percent: float
    """Quarter to three quarters of the calls, in percent of the median."""
    calls: int


class Memory(_Part):
    """Peak while it answers, in a process that does nothing else."""

    resident_bytes: int
    """Of the whole process, its libraries and the weights."""
    beyond_loading_bytes: int
    """Of that, what came after network and image had been loaded."""
    device_bytes: int | None = None
    """On the GPU, as torch's allocator counts it."""


class Energy(_Part):
    """What a counter of the machine said while the network ran without a pause. Nothing is subtracted."""

    joules_per_image: float
    watts: float
    samples: tuple[tuple[float, float], ...]
    """Seconds since the start, mean watts since the sample before."""


class Row(_Part):
    """A network on a backend."""

    network: str
    backend: str
    task: Task
    size: str
    """Input size, WIDTHxHEIGHT."""
    batch: int
    answer: Answer
    checked: str
    """What its answer was compared with before it was timed."""
    parameters: int | None = None
    published_parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulates of the convolutions for one image."""
    matrix_macs: int | None = None
    """Those of linear layers and other matrix products, which the published tables leave out."""
    weight_bytes: int | None = None
    """Size of the float32 weights as safetensors, or of the exported file."""
    accuracy: Accuracy | None = None
    latency: Latency
    images_per_second: float
    ratio: float
    """Duration over that of the report's first row of the same task, each by the mean of its quickest quarter of turns."""
    memory: Memory | None = None
    energy: Energy | None = None


class Refusal(_Part):
    """What was asked for and is not among the rows."""

    network: str | None
    """None where a backend is refused altogether."""
    backend: str | None
    """None where a network is."""
    reason: str


class Report(_Part):
    """Everything measured in one run."""

    machine: Machine
    batch: int
    rounds: int
    energy: str
    """The counter, or why there is none."""
    idle_watts: float | None = None
    rows: tuple[Row, ...]
    refused: tuple[Refusal, ...]
