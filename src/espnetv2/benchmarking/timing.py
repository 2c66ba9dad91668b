"""Time contenders in turns, and summarise the times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from espnetv2.benchmarking.report import Latency

Run = Callable[[], object]
"""One call of a contender, which returns when the output is available."""
Clock = Callable[[], float]
Sleep = Callable[[float], None]

WARM_UP = 3
"""``espnetv2.accelerate`` chooses the fastest backend on a GPU at the third call."""
PAUSE_S = 0.1
"""The runtimes' threads spin for a while after a call, and would take the cores from the next contender."""
TURN_S = 0.06
FEWEST, MOST = 3, 25
QUICKEST = 4
"""A ratio is computed from one turn in so many, the fastest."""


def interleaved(
    runs: Sequence[Run],
    rounds: int,
    *,
    clock: Clock = time.perf_counter,
    sleep: Sleep = time.sleep,
    done: Callable[[], None] = lambda: None,
) -> list[list[list[float]]]:
    """Seconds of every timed call, by contender and round.

    Every contender has one turn in each round, and each round begins with another contender, so that neither drifting speed of
    the machine nor the previous contender favours any. A turn is a pause, one untimed call (it wakes threads and fills caches),
    and as many timed calls as fill ``TURN_S`` according to the first turn, from ``FEWEST`` to ``MOST``.

    Args:
        runs: the contenders.
        rounds: turns of each.
        clock: seconds from some fixed moment.
        sleep: waits for some seconds.
        done: called after each turn.
    """
    for run in runs:
        for _ in range(WARM_UP):
            run()
    times: list[list[list[float]]] = [[] for _ in runs]
    counts = [0] * len(runs)
    for number in range(rounds):
        for place in range(len(runs)):
            index = (number + place) % len(runs)
            sleep(PAUSE_S)
            first = _seconds(runs[index], clock)
            counts[index] = counts[index] or calls_per_turn(first)
            times[index].append([_seconds(runs[index], clock) for _ in range(counts[index])])
            done()
    return times


def calls_per_turn(seconds: float) -> int:
    """Number of calls of this duration in a turn."""
    return min(MOST, max(FEWEST, math.ceil(TURN_S / seconds) if seconds > 0 else MOST))


def summary(rounds: Sequence[Sequence[float]]) -> Latency:
    """Median, 95th percentile (linearly interpolated) and spread of all calls, whose times are given in seconds."""
    times = 1e3 * np.concatenate([np.asarray(turn) for turn in rounds])
    lower, median, upper, p95 = np.percentile(times, [25, 50, 75, 95])
    return Latency(
        median_ms=float(median),
        p95_ms=float(p95),
        spread_percent=float(100 * (upper - lower) / median),
        calls=len(times),
    )


def ratio(rounds: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> float:
    """Duration relative to ``base`` when least disturbed: each as the mean of its fastest quarter of turns.

    A disturbance slows one contender more than another, by up to half and for seconds at a time, so ratios of all turns would
    reflect the other load more than the contenders. Both took their turns over the same period, so either could meet a quiet
    moment.
    """
    return _undisturbed(rounds) / _undisturbed(base)


def _undisturbed(rounds: Sequence[Sequence[float]]) -> float:
    turns = sorted(float(np.median(turn)) for turn in rounds)
    return float(np.mean(turns[: math.ceil(len(turns) / QUICKEST)]))


def _seconds(run: Run, clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start
