from __future__ import annotations

from collections.abc import Callable

import pytest

from espnetv2.benchmarking.timing import FEWEST, MOST, PAUSE_S, WARM_UP, calls_per_turn, interleaved, ratio, summary


class FakeTime:
    """A clock that moves only where a call or a pause says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.log.append("pause")
        self.now += seconds

    def call(self, name: str, *seconds: float) -> Callable[[], None]:
        """A contender that takes these seconds one after the other, the last one for ever."""
        left = list(seconds)

        def run() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_contenders_take_turns_and_each_round_begins_with_another() -> None:
    time = FakeTime()
    steps: list[int] = []
    times = interleaved(
        [time.call("a", 0.03), time.call("b", 0.5)],
        2,
        clock=time.clock,
        sleep=time.sleep,
        done=lambda: steps.append(len(time.log)),
    )
    a, b = ["pause", "a", "a", "a", "a"], ["pause", "b", "b", "b", "b"]
    assert time.log == [*["a"] * WARM_UP, *["b"] * WARM_UP, *a, *b, *b, *a]
    assert [[len(turn) for turn in rounds] for rounds in times] == [[3, 3], [3, 3]]
    assert times[0][0] == pytest.approx([0.03] * 3)
    assert times[1][1] == pytest.approx([0.5] * 3)
    assert len(steps) == 4
    assert time.now == pytest.approx(11 * 0.03 + 11 * 0.5 + 4 * PAUSE_S)


def test_the_first_call_of_a_turn_is_not_timed() -> None:
    time = FakeTime()
    # Cold at first and after the pause, then warm.
    times = interleaved([time.call("a", *[9.0] * WARM_UP, 5.0, 0.1)], 1, clock=time.clock, sleep=time.sleep)
    assert times[0][0] == pytest.approx([0.1] * FEWEST)


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, FEWEST), (0.01, 6), (0.0007, MOST), (0.0, MOST)])
def test_short_calls_are_repeated_more_often(seconds: float, calls: int) -> None:
    assert calls_per_turn(seconds) == calls


def test_median_percentile_and_spread_by_hand() -> None:
    latency = summary([[0.003, 0.001], [0.010, 0.002, 0.004]])
    # Of 1, 2, 3, 4, 10 ms the 95th percentile lies four fifths of the way from the fourth to the fifth.
    assert latency.calls == 5
    assert latency.median_ms == pytest.approx(3)
    assert latency.p95_ms == pytest.approx(4 + 0.8 * 6)
    assert latency.spread_percent == pytest.approx(100 * (4 - 2) / 3)


def test_a_ratio_is_of_the_quickest_quarter_of_the_turns() -> None:
    base = [[1.0, 1.0, 9.0], [8.0], [8.0], [8.0], [3.0], [8.0], [8.0], [8.0]]
    own = [[60.0], [5.0], [60.0], [60.0], [60.0], [60.0], [7.0], [60.0]]
    # Two of eight turns each, by their medians: 5 and 7 over 1 and 3.
    assert ratio(own, base) == pytest.approx(6 / 2)


def test_a_ratio_of_a_few_rounds_is_of_the_quickest() -> None:
    assert ratio([[3.0], [90.0], [24.0]], [[2.0], [1.0], [8.0]]) == pytest.approx(3)
    assert ratio([[6.0]], [[2.0]]) == pytest.approx(3)
