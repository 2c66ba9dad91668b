from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from espnetv2.evaluation.plots import plot_confusion, plot_per_class
from espnetv2.metrics import SegmentationMetrics


def test_class_names_are_no_formulae(tmp_path: Path) -> None:
    metrics = SegmentationMetrics(("a $x_{$ b", "$5-$10", "absent $y_{$"))
    metrics.update(np.array([[0, 1]]), np.array([[0, 0]]))
    for draw in (plot_confusion, plot_per_class):
        draw(metrics, tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png") as plot:
            assert plot.convert("L").getextrema() == (0, 255)
