"""The machine, and everything on it that could distort a measurement."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

from espnetv2.benchmarking.report import Check, Machine
from espnetv2.cores import usable_cores
from espnetv2.errors import MissingPackageError

PACKAGES = ("torch", "torchvision", "numpy", "onnxruntime", "openvino", "timm", "segmentation-models-pytorch", "zeus")
TOLERATED = 0.05
"""Share of the cores that other processes may take. Beyond it, medians shift."""
_CPU = Path("/sys/devices/system/cpu")
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def describe(device: torch.device, threads: int, checks: Sequence[Check]) -> Machine:
    """The machine as it is now."""
    psutil = _psutil()
    clock = time.get_clock_info("perf_counter")
    source = _read(_CLOCK)
    return Machine(
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=threads,
        clock=f"time.perf_counter, {clock.implementation}, step {clock.resolution:.0e} s{f', {source}' if source else ''}",
        versions={"python": platform.python_version()} | _versions(),
        checks=tuple(checks),
    )


@dataclass(frozen=True)
class Watch:
    """Counters read before a measurement, to be compared with those after it."""

    total: float
    busy: float
    stolen: float | None
    own: float
    throttled: int | None

    def checks(self, threads: int) -> tuple[Check, ...]:
        """Checks of what happened since, and of what always holds."""
        now = watch()
        return (
            _load(self, now),
            _stolen(self, now),
            _throttling(self, now),
            _governor(),
            _cores(threads),
        )


def watch() -> Watch:
    """Read the processors' counters.

    Raises:
        MissingPackageError: psutil is not installed.
    """
    psutil = _psutil()
    every = psutil.cpu_times(percpu=True)
    # Activity on cores that this process does not use disturbs nothing.
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(every))
    # In some containers, and if cores are switched off, the counters are fewer than the cores' numbers.
    counts = [every[core] for core in usable] if max(usable) < len(every) else every
    own = psutil.Process().cpu_times()
    idle = sum(core.idle + getattr(core, "iowait", 0.0) for core in counts)
    stolen = sum(core.steal for core in counts) if hasattr(counts[0], "steal") else None
    # User time includes guest time.
    total = sum(sum(core) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0) for core in counts)
    return Watch(total, total - idle - (stolen or 0.0), stolen, own.user + own.system, _throttle_count())


def _load(before: Watch, after: Watch) -> Check:
    spent = (after.busy - before.busy) - (after.own - before.own)
    share = max(0.0, spent) / max(after.total - before.total, 1e-9)
    return Check(
        name="other load",
        passed=share <= TOLERATED,
        detail=f"other processes took {share:.1%} of the cores during the timing"
        + ("" if share <= TOLERATED else ": the figures are unreliable, measure again on an idle machine"),
    )


def _stolen(before: Watch, after: Watch) -> Check:
    if before.stolen is None or after.stolen is None:
        return Check(
            name="host", passed=None, detail="this system does not report the time that a host takes from a virtual machine"
        )
    share = (after.stolen - before.stolen) / max(after.total - before.total, 1e-9)
    return Check(name="host", passed=share <= TOLERATED / 5, detail=f"the host took {share:.1%} of the cores' time")


def _throttling(before: Watch, after: Watch) -> Check:
    if before.throttled is None or after.throttled is None:
        return Check(name="throttling", passed=None, detail="this machine hides its thermal counters")
    events = after.throttled - before.throttled
    return Check(name="throttling", passed=events == 0, detail=f"{events} thermal events during the timing")


def _governor() -> Check:
    governors = {text for path in _CPU.glob("cpu*/cpufreq/scaling_governor") if (text := _read(path))}
    if not governors:
        return Check(name="frequency", passed=None, detail="this machine hides its frequency governor")
    return Check(name="frequency", passed=governors == {"performance"}, detail=f"governor {', '.join(sorted(governors))}")


def _cores(threads: int) -> Check:
    cores = usable_cores()
    quota = _quota()
    least = cores if quota is None else min(cores, quota)
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    return Check(name="cores", passed=threads <= least, detail=f"{threads} threads on {cores} cores, {limit}")


def _quota() -> float | None:
    """Cores granted by the control group, or None for all."""
    for path in (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")):
        if (text := _read(path)) is None:
            continue
        quota, _, period = text.partition(" ")
        period = period or _read(path.with_name("cpu.cfs_period_us")) or "100000"
        return None if quota in ("max", "-1") else int(quota) / int(period)
    return None


def _throttle_count() -> int | None:
    counts = [_read(path) for path in _CPU.glob("cpu*/thermal_throttle/core_throttle_count")]
    return sum(int(count) for count in counts if count is not None) if counts else None


def _processor() -> str:
    lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return f"{name or platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _versions() -> dict[str, str]:
    from espnetv2 import __version__

    versions = {"espnetv2": __version__}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return None


def _psutil() -> Any:
    try:
        return import_module("psutil")
    except ImportError as error:
        raise MissingPackageError("psutil", "benchmark", "monitoring the machine during a benchmark") from error
