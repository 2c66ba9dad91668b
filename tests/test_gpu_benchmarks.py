"""The benchmarks on a GPU, as far as they go without one."""

from __future__ import annotations

import math
import subprocess
import sys
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
    times = {"ours": iter([1.0, 9.0, 2.0]), "eager": iter([4.0, 5.0, 6.0])}

    def clock(run: Callable[[], object]) -> float:
        run()
        return next(times[order[-1]])

    found = common.interleaved({name: lambda name=name: order.append(name) for name in times}, 3, clock)
    assert order[2 * common.WARM_UPS :] == ["ours", "eager"] * 3
    assert found == {"ours": 2000, "eager": 5000}
    line = common.row("a", found, ("eager", "graphs"), 500)
    assert line == "| a | **2000.000** | 5000.000 | - | 2.50 | 2.50 | 500.000 | 4.0 |"


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
