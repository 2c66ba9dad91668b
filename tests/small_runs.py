"""Small training runs, in this process and as commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from espnetv2.training.hardware import Hardware
from espnetv2.training.recipe import load_recipe
from espnetv2.training.run import train

MODEL = "espnetv2_seg_s0_5"
SMALL = ("input_size=48x32", "batch_size=2", "epochs=2", "workers=0", "lr=0.002")


def run_small(shapes: Path, out: Path, *changes: str, **options: Any) -> Path:
    recipe = load_recipe("segmentation", [*SMALL, *changes])
    return train(recipe, MODEL, shapes, out, hardware=Hardware(device="cpu"), **options)


def command(shapes: Path, out: Path, *more: str, changes: tuple[str, ...] = ()) -> list[str]:
    settings = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    program = [sys.executable, "-m", "espnetv2", "train", "--recipe", "segmentation", "--model", MODEL, "--device", "cpu"]
    return [*program, "--data", str(shapes), "--out", str(out), *settings, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def rows_of(out: Path) -> int:
    path = out / "metrics.csv"
    return path.read_text().count("\n") if path.is_file() else 0
