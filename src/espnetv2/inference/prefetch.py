"""Work ahead: prepare the next items in threads while the current ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(items: Iterable[T], prepare: Callable[[T], R], *, workers: int, depth: int) -> Generator[R]:
    """``prepare(item)`` for every item, in order, up to ``depth`` of them ahead of the consumer.

    The iteration itself runs in a thread of its own, one step at a time, so that an iterator that decodes video works
    ahead too. An exception in either is raised in place of its result.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as preparers:
        pending: deque[Future[Future[R] | None]] = deque()

        def step() -> Future[R] | None:
            for item in iterator:
                return preparers.submit(prepare, item)
            return None

        try:
            pending.extend(reader.submit(step) for _ in range(max(1, depth)))
            while (future := pending.popleft().result()) is not None:
                pending.append(reader.submit(step))
                yield future.result()
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
            preparers.shutdown(wait=False, cancel_futures=True)
