from __future__ import annotations

import os
import sys
from collections import namedtuple
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from espnetv2.benchmarking import machine
from espnetv2.benchmarking.machine import Watch, describe, watch
from espnetv2.cores import usable_cores
from espnetv2.errors import MissingPackageError


def after(monkeypatch: pytest.MonkeyPatch, counts: Watch) -> None:
    monkeypatch.setattr(machine, "watch", lambda: counts)


BEFORE = Watch(total=100.0, busy=40.0, stolen=1.0, own=10.0, throttled=5)


def test_load_of_others_is_what_is_busy_beyond_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 200 s of the cores 90 were busy, of which this process had 82: others took 4 %.
    after(monkeypatch, Watch(total=300.0, busy=130.0, stolen=1.0, own=92.0, throttled=5))
    quiet = {check.name: check for check in BEFORE.checks(1)}
    assert quiet["other load"].passed
    assert "took 4.0% of the cores" in quiet["other load"].detail
    assert quiet["host"].passed
    assert quiet["throttling"].passed
    after(monkeypatch, Watch(total=300.0, busy=200.0, stolen=11.0, own=92.0, throttled=8))
    loud = {check.name: check for check in BEFORE.checks(1)}
    assert loud["other load"].passed is False
    assert "took 39.0%" in loud["other load"].detail
    assert loud["host"].passed is False
    assert loud["throttling"].passed is False
    assert loud["throttling"].detail.startswith("3 ")


def test_what_a_machine_hides_is_not_called_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    hidden = Watch(total=100.0, busy=40.0, stolen=None, own=10.0, throttled=None)
    after(monkeypatch, hidden)
    verdicts = {check.name: check.passed for check in hidden.checks(1)}
    assert (verdicts["host"], verdicts["throttling"], verdicts["frequency"]) == (None, None, None)


def test_governor_and_throttling_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for core, governor in enumerate(("performance", "powersave")):
        for name, text in (("cpufreq/scaling_governor", governor), ("thermal_throttle/core_throttle_count", "2")):
            path = tmp_path / f"cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    found = watch()
    assert found.throttled == 4
    frequency = next(check for check in found.checks(1) if check.name == "frequency")
    assert (frequency.passed, frequency.detail) == (False, "governor performance, powersave")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_only_the_cores_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    psutil: Any = import_module("psutil")
    core = namedtuple("core", ["user", "system", "idle", "steal"])
    cores = [core(5.0, 0.0, 1.0, 0.5), core(90.0, 0.0, 2.0, 0.0), core(1.0, 1.0, 8.0, 0.25)]
    monkeypatch.setattr(psutil, "cpu_times", lambda *, percpu: cores if percpu else None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    found = watch()
    assert (found.total, found.busy, found.stolen) == (16.75, 7.0, 0.75)
    # A core that is switched off has no counters, but the others keep their numbers.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3})
    assert watch().busy == 97.0


def test_more_threads_than_cores_fail() -> None:
    cores = next(check for check in watch().checks(usable_cores() + 1) if check.name == "cores")
    assert cores.passed is False


def test_this_machine() -> None:
    found = describe(torch.device("cpu"), 2, ())
    assert found.cores == usable_cores()
    assert found.threads == 2
    assert found.versions["torch"] == torch.__version__.partition("+")[0] or found.versions["torch"] == torch.__version__
    assert "perf_counter" in found.clock


def test_what_pip_left_over_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "torch" in describe(torch.device("cpu"), 2, ()).versions


def test_psutil_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingPackageError, match=r"psutil.*\.\[benchmark\]"):
        watch()
