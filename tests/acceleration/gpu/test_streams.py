"""The order of events around side streams, with streams that write down what is asked of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from espnetv2.acceleration.gpu import streams

DEVICE = torch.device("cuda", 1)


class Stream:
    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def record_event(self) -> str:
        self.told.append(f"{self.name} records")
        return "ready"

    def wait_event(self, event: str) -> None:
        self.told.append(f"{self.name} waits for {event}")

    def wait_stream(self, other: Stream) -> None:
        self.told.append(f"{self.name} waits for {other.name}")


class Map:
    device = DEVICE

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def record_stream(self, stream: Stream) -> None:
        self.told.append(f"{self.name} is kept for {stream.name}")


def test_branches_start_after_their_input_and_the_caller_goes_on_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    here, sides = Stream("here", told), [Stream(f"side {i}", told) for i in (1, 2, 3)]

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        told.append(f"on {stream.name}:")
        yield
        told.append("on here:")

    def asked(device: torch.device) -> Any:
        assert device == DEVICE
        return here

    monkeypatch.setattr(torch.cuda, "current_stream", asked)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(streams, "side_streams", lambda device: sides if device == DEVICE else [])

    def branch(index: int) -> Any:
        def run(x: Map) -> Map:
            told.append(f"branch {index} of {x.name}")
            return Map(f"result {index}", told)

        return run

    branches: Any = [branch(index) for index in range(4)]
    given: Any = Map("x", told)
    made: Any = streams.side_by_side(branches, given)
    assert [result.name for result in made] == ["result 0", "result 1", "result 2", "result 3"]
    assert told[0] == "here records"
    for index in (1, 2, 3):
        assert told[1 + 6 * (index - 1) : 1 + 6 * index] == [
            f"side {index} waits for ready",
            f"on side {index}:",
            f"branch {index} of x",
            "on here:",
            f"x is kept for side {index}",
            f"result {index} is kept for here",
        ]
    assert told[19:] == ["branch 0 of x", *(f"here waits for side {index}" for index in (1, 2, 3))]


def test_a_thread_has_its_own_streams_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: object())
    monkeypatch.setattr(streams, "_side_streams", threading.local())
    other = torch.device("cuda", 0)
    mine = streams.side_streams(DEVICE)
    assert len(set(mine)) == 3
    assert streams.side_streams(DEVICE) is mine
    assert not set(streams.side_streams(other)) & set(mine)
    theirs: list[object] = []
    thread = threading.Thread(target=lambda: theirs.extend(streams.side_streams(DEVICE)))
    thread.start()
    thread.join()
    assert not set(theirs) & set(mine)
