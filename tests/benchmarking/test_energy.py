from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from espnetv2.benchmarking.energy import (
    IDLE_S,
    ROUNDS,
    WINDOW_S,
    EnergyUnavailableError,
    find_counter,
    idle_power,
    measure_energy,
)


class FakeMachine:
    """A clock, and a counter that rises by 5 W all the time and by as much more as a contender draws."""

    covers = "a machine that does not exist"

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 1000.0

    def clock(self) -> float:
        return self.now

    def joules(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.run(seconds, 0.0)

    def run(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.used += seconds * (5 + watts)


def test_energy_per_image_by_hand() -> None:
    machine = FakeMachine()
    small, large = measure_energy(
        [lambda: machine.run(0.25, 3), lambda: machine.run(0.5, 15)], 4, machine, clock=machine.clock, sleep=machine.sleep
    )
    # 8 W for a quarter of a second are 2 J for four images; 20 W for half a second are 10 J.
    assert small.joules_per_image == pytest.approx(0.5)
    assert small.watts == pytest.approx(8)
    assert large.joules_per_image == pytest.approx(2.5)
    assert large.watts == pytest.approx(20)


def test_power_over_time_is_sampled_between_calls() -> None:
    machine = FakeMachine()
    draws = iter([0.0, *([3.0] * 2 + [7.0] * 2) * 6] * ROUNDS)
    (energy,) = measure_energy([lambda: machine.run(0.125, next(draws))], 1, machine, clock=machine.clock, sleep=machine.sleep)
    # The first call of each turn warms up and is not counted; then two calls make a sample.
    seconds, watts = zip(*energy.samples, strict=True)
    assert seconds[:3] == pytest.approx((0.25, 0.5, 0.75))
    assert watts == pytest.approx((8, 12) * 6 * ROUNDS)
    assert seconds[-1] == pytest.approx(ROUNDS * WINDOW_S)
    assert energy.joules_per_image == pytest.approx(10 * 0.125)


def test_idle_power_is_what_the_counter_says_while_nothing_runs() -> None:
    machine = FakeMachine()
    assert idle_power(machine, clock=machine.clock, sleep=machine.sleep) == pytest.approx(5)
    assert machine.now == pytest.approx(IDLE_S)


class Cpus:
    """Zeus's view of two packages, with millijoules."""

    def __init__(self, memory: bool) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return 2

    def supports_get_dram_energy_consumption(self, _: int) -> bool:
        return self.memory

    def get_total_energy_consumption(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(cpu_mj=1500.0 + index, dram_mj=250.0 if self.memory else None)


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for the package, whose functions a test fills in."""
    device, exception = ModuleType("zeus.device"), ModuleType("zeus.exception")
    error = type("ZeusBaseError", (Exception,), {})
    exception.__dict__["ZeusBaseError"] = error
    for module in (ModuleType("zeus"), device, exception):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(functions=device.__dict__, error=error)


@pytest.mark.parametrize(("memory", "joules"), [(False, 3.001), (True, 3.501)])
def test_processors_are_added_up(zeus: SimpleNamespace, memory: bool, joules: float) -> None:
    zeus.functions["get_cpus"] = lambda: Cpus(memory)
    counter = find_counter(torch.device("cpu"))
    assert counter.joules() == pytest.approx(joules)
    assert counter.covers.startswith(f"2 processor package(s){' and memory' if memory else ''} (RAPL")


def test_the_gpu_is_the_one_that_is_used(zeus: SimpleNamespace) -> None:
    zeus.functions["get_gpus"] = lambda: SimpleNamespace(get_total_energy_consumption=lambda index: 1000 * (index + 1))
    assert find_counter(torch.device("cuda:1")).joules() == 2
    assert "NVML" in find_counter(torch.device("cuda")).covers


def test_no_counter_says_why(zeus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise zeus.error("RAPL unavailable")

    zeus.functions["get_cpus"] = refuse
    with pytest.raises(EnergyUnavailableError, match=r"no RAPL \(/sys/class/powercap\).*: RAPL unavailable"):
        find_counter(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    with pytest.raises(EnergyUnavailableError, match=r"pip install '\.\[energy\]'"):
        find_counter(torch.device("cpu"))
    with pytest.raises(EnergyUnavailableError, match="mps"):
        find_counter(torch.device("mps"))
