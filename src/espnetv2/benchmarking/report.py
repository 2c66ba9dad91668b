"""The report of a benchmark. Its JSON document has these classes' fields."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from espnetv2.models.registry import Task

Answer = Literal["logits", "class map", "class"]
Metric = Literal["top1", "miou"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Part):
    """A check of something that could distort a measurement."""

    name: str
    passed: bool | None
    """None if unknown on this machine."""
    detail: str


class Machine(_Part):
    """The machine, software and conditions of the measurement."""

    processor: str
    cores: int
    """Usable by this process."""
    memory_bytes: int
    system: str
    device: str
    threads: int
    clock: str
    versions: dict[str, str]
    checks: tuple[Check, ...]


class Accuracy(_Part):
    """Accuracy of the network with certain weights."""

    metric: Metric
    percent: float
    dataset: str
    weights: str
    size: str
    """Input size to which it applies, WIDTHxHEIGHT."""
    origin: str
    """Who published or measured it."""


class Latency(_Part):
    """Duration of a call after warm-up, until the output is available."""

    median_ms: float
    p95_ms: float
    spread_percent: float
    """Interquartile range of the calls, in percent of the median."""
    calls: int


class Memory(_Part):
    """Peak while it runs, in a process that does nothing else."""

    resident_bytes: int
    """Of the whole process, including libraries and weights."""
    beyond_loading_bytes: int
    """The part of it that was added after network and image were loaded."""
    device_bytes: int | None = None
    """On the GPU, as torch's allocator counts it."""


class Energy(_Part):
    """Readings of a counter of the machine while the network ran without a pause. Nothing is subtracted."""

    joules_per_image: float
    watts: float
    samples: tuple[tuple[float, float], ...]
    """Seconds since the start, mean watts since the previous sample."""


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
    """What its output was compared with before it was timed."""
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
    """Duration relative to the report's first row of the same task, each as the mean of its fastest quarter of turns."""
    memory: Memory | None = None
    energy: Energy | None = None


class Refusal(_Part):
    """Something that was requested but is not among the rows."""

    network: str | None
    """None if a backend is refused altogether."""
    backend: str | None
    """None if a network is refused altogether."""
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
