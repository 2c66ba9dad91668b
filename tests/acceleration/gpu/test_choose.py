from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import platformdirs
import pytest
import torch
from torch import Tensor

from espnetv2.acceleration.gpu.choose import Function, choose

IMAGE = torch.ones(1)
KEY = {"device": "one", "shape": [1, 3, 2, 2]}


class Ways:
    """Candidates that say when they are built; each takes as long as it is told."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.built: list[str] = []
        self.names: dict[Function, str] = {}

    def candidates(self, **others: Function) -> dict[str, Callable[[], Function]]:
        return {name: partial(self._build, name, others.get(name)) for name in self.seconds}

    def _build(self, name: str, function: Function | None) -> Function:
        self.built.append(name)
        made = function or (lambda image: image * 2)
        self.names[made] = name
        return made

    def clock(self, function: Function, image: Tensor) -> float:
        function(image)
        return self.seconds[self.names[function]]

    def choose(self, **others: Function) -> str:
        return choose(KEY, self.candidates(**others), IMAGE, lambda answer: bool(answer == 2), self.clock)[0]


def out_of_memory(_: Tensor) -> Tensor:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


def test_the_fastest_is_chosen() -> None:
    assert Ways(eager=3, streams=1, graphs=2).choose() == "streams"


def test_a_wrong_answer_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert Ways(eager=3, fused=1, graphs=2).choose(fused=lambda image: image * 3) == "graphs"
    assert "fused gives a different output" in caplog.text


def test_who_runs_out_of_memory_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    assert Ways(eager=3, graphs=1).choose(graphs=out_of_memory) == "eager"
    assert "graphs cannot be used here (OutOfMemoryError: CUDA out of memory.)" in caplog.text


def test_who_runs_out_of_memory_while_measured_is_dropped() -> None:
    answers = [IMAGE * 2] * 3

    def at_first(image: Tensor) -> Tensor:
        return answers.pop() if answers else out_of_memory(image)

    assert Ways(eager=3, graphs=1).choose(graphs=at_first) == "eager"


def test_a_choice_is_remembered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Ways(eager=3, streams=2, graphs=1).choose()
    assert "graphs is the fastest here" in caplog.text
    later = Ways(eager=1, streams=1, graphs=9)
    assert later.choose() == "graphs"
    assert later.built == ["graphs"]


def test_a_remembered_choice_that_is_wrong_now_is_measured_anew() -> None:
    Ways(eager=3, graphs=1).choose()
    assert Ways(eager=3, streams=2, graphs=1).choose(graphs=lambda image: image) == "streams"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"choice": "graphs"}', '{"choice": "graphs", "key": {"device": "two"}}']
)
def test_what_is_no_choice_is_ignored(text: str) -> None:
    Ways(eager=3, graphs=1).choose()
    (path,) = (Path(platformdirs.user_cache_dir("espnetv2")) / "choices").iterdir()
    path.write_text(text)
    assert Ways(eager=1, graphs=2).choose() == "eager"
    assert json.loads(path.read_text())["choice"] == "eager"


def test_without_a_place_to_remember_it_still_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Ways(eager=3, graphs=1).choose() == "graphs"


@pytest.mark.usefixtures("no_home")
def test_without_a_home_it_still_chooses() -> None:
    assert Ways(eager=3, graphs=1).choose() == "graphs"
