from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from espnetv2.inference.prefetch import prefetch


def test_order_is_kept_whatever_takes_longest() -> None:
    def slow_first(value: int) -> int:
        time.sleep(0.02 if value % 3 == 0 else 0)
        return value * value

    assert list(prefetch(range(20), slow_first, workers=3, depth=5)) == [value * value for value in range(20)]


def test_it_works_ahead_but_not_too_far() -> None:
    prepared: list[int] = []

    def prepare(value: int) -> int:
        prepared.append(value)
        return value

    results = prefetch(range(100), prepare, workers=1, depth=4)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(prepared) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02)
    assert prepared == [0, 1, 2, 3, 4]
    results.close()


def test_errors_come_where_their_result_would() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise RuntimeError("the source broke")

    results = prefetch(broken(), lambda value: value, workers=2, depth=8)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(RuntimeError, match="the source broke"):
        next(results)


def test_leaving_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for value in prefetch(range(1000), lambda value: value, workers=2, depth=8):
        if value == 3:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threading.active_count() == before
