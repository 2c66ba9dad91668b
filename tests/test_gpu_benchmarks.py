"""The benchmarks on a GPU, as far as they go without one."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import espnetv2
from helpers import ROOT


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu_common

    return gpu_common


def wall(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def numbers(row: list[str]) -> list[float]:
    return [float(number) for cell in row for number in re.findall(r"\d[\d.e-]*", cell)]


def test_a_row_of_inference(common: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import gpu_inference as script

    monkeypatch.setattr(script, "interleaved", lambda runs, rounds: common.interleaved(runs, rounds, wall))
    monkeypatch.setitem(script.BUILDERS, "ours", script._backend("auto"))
    names, card = ("eager", "AMP", "graphs"), common.Card("none", 1e9, 1e9)
    for name in ("espnetv2_s0_5", "espnetv2_seg_s0_5"):
        monkeypatch.setitem(script.CASES, "tiny", (name, 2, 32, 48))
        row = cells(script.measured("tiny", torch.float32, names, 1, card, "cpu"))
        columns = cells(common.header(names, ("difference",)).splitlines()[0])
        found = dict(zip(columns, row, strict=True))
        assert (found["case"], found["graphs"]) == ("tiny", "-")
        assert min(numbers([found[name] for name in ("ours", "eager", "AMP", "eager / ours", "floor")])) > 0
        assert float(found["difference"]) < 1e-3
        # Without a GPU there are no graphs, and a contender that fails is told of and left out.
        assert 'tiny: graphs fails: UserError: [\'the backend "graphs" is for a GPU' in capsys.readouterr().out


def test_a_row_of_training(common: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_training as script

    monkeypatch.setattr(script, "interleaved", lambda runs, rounds: common.interleaved(runs, rounds, wall))
    monkeypatch.setitem(script.CASES, "tiny", ("espnetv2_seg_s0_5", 2, 32, 48))
    monkeypatch.setattr(script, "FAR", 10.0)
    row = cells(script.measured("tiny", ("channels-last AMP", "plain float32"), 1, common.Card("none", 1e9, 1e9), "cpu"))
    assert row[0] == "tiny"
    assert len(row) == len(cells(common.header(("channels-last AMP", "plain float32")).splitlines()[0]))
    assert min(numbers(row[1:])) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["gpu_inference.py", "gpu_training.py"])
def test_without_a_gpu_they_say_so(script: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--rounds", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "none was found" in ran.stderr


def test_contenders_take_turns_and_medians_are_told(common: Any) -> None:
    order: list[str] = []
    warm = [100.0] * common.WARM_UPS
    times = {"ours": iter([*warm, 1.0, 9.0, 2.0]), "eager": iter([*warm, 4.0, 5.0, 6.0])}

    def clock(run: Callable[[], object]) -> float:
        run()
        return next(times[order[-1]])

    found = common.interleaved({name: lambda name=name: order.append(name) for name in times}, 3, clock)
    assert order == ["ours", "eager"] * (common.WARM_UPS + 3)
    assert found == {"ours": 2000, "eager": 5000}
    line = common.row("a", found, ("eager", "graphs"), 500)
    assert line == "| a | 500.000 | **2000.000** (4.0) | 5000.000 (10.0) | - | 2.50 | 2.50 |"
    assert common.header(("eager", "graphs")).startswith(
        "| case | floor | ours | eager | graphs | best / ours | eager / ours |"
    )


def test_ours_can_be_measured_alone(common: Any) -> None:
    assert common.row("a", {"ours": 2.0}, (), 1) == "| a | 1.000 | **2.000** (2.0) | - |"
    assert common.header(()).startswith("| case | floor | ours | best / ours |")


def test_who_runs_out_of_memory_is_left_out(
    common: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def too_large() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert set(common.interleaved({"ours": lambda: None, "eager": too_large}, 2, wall)) == {"ours"}
    assert "eager runs out of memory" in capsys.readouterr().out


def test_the_floor_is_the_longer_of_moving_and_computing(common: Any) -> None:
    card = common.Card("none", bandwidth=1e9, rate=1e9)
    assert card.floor(2e6, 1e6) == 2
    assert card.floor(1e6, 3e6) == 3


def test_bytes_that_have_to_move(common: Any) -> None:
    model = espnetv2.create_model("espnetv2_s0_5").eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # Levels 1 to 5 at half to 1/32 of 64x64, their units at the same size, the two last layers, the answer.
    maps = 16 * 32**2 + 32 * 16**2 + 4 * 64 * 8**2 + 8 * 128 * 4**2 + 4 * 256 * 2**2 + (256 + 1024) * 2**2
    wanted = 2 * (3 * 64 * 64 + parameters + 2 * maps + 1000)
    assert math.isclose(common.bytes_moved(model, (1, 3, 64, 64), 2), wanted)
