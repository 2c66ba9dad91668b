from __future__ import annotations

import io

import pytest
from rich.console import Console

from espnetv2.training import progress


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_cuts_the_figures_and_not_the_time(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    bar = progress.Progress(epochs=72, steps_per_epoch=91, step=0)
    bar.stepped(940, {"epoch": 10, "train_loss": 0.812, "lr": 0.0019})
    bar.close()
    line = shown.getvalue().replace("\r", "\n").split("\n")[-2]
    assert "epoch 11/72" in line
    assert "940/6552 steps 0:00:" in line
    assert " ETA " in line
    assert ("…" in line) == (width <= 80)


def test_lines_are_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, width=40))
    bar = progress.Progress(epochs=3, steps_per_epoch=9, step=0)
    bar.validated({"epoch": 0, "step": 9, "train_loss": 0.8, "val_loss": 0.3, "miou": 66.9}, "miou", 66.9)
    bar.close()
    assert shown.getvalue().strip() == "epoch 1/3: loss 0.8000, validation 0.3000, miou 66.90 (best 66.90)"
