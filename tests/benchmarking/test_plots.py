from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from espnetv2.benchmarking import plots
from espnetv2.benchmarking.plots import family, plot_paths, plot_report
from espnetv2.benchmarking.report import Report
from espnetv2.errors import UserError
from espnetv2.figures import save_figure
from helpers import benchmark_report


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """Figures that were saved."""
    figures: list[matplotlib.figure.Figure] = []

    def keep(figure: matplotlib.figure.Figure, path: Path) -> None:
        figures.append(figure)
        save_figure(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return figures


def places(axes: Axes) -> list[list[float]]:
    """Points of the first line."""
    found: list[list[float]] = np.asarray(axes.lines[0].get_xydata()).tolist()
    return found


def test_png_and_svg_of_every_panel(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    paths = plot_paths(tmp_path / "cost")
    plot_report(benchmark_report(), paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cost.png", "cost.svg"]
    with Image.open(paths[0]) as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert ElementTree.parse(paths[1]).getroot().tag.endswith("svg")
    accuracy_macs, latency, energy, power = drawn[0].axes
    # Each network on the fastest of its backends: 2 ms, not 20.
    assert places(accuracy_macs) == [[29.4, 57.68], [86.74, 66.09]]
    assert places(latency) == [[2.0, 57.68], [4.0, 66.09]]
    assert places(energy) == [[12.0, 57.68], [24.0, 66.09]]
    assert places(power) == [[0.2, 5.0], [0.4, 7.0]]
    assert [label.get_text() for label in latency.texts] == ["0.5", "1", "mobilenet_v2"]


def test_labels_do_not_cover_one_another(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    report = benchmark_report()
    # Three more rivals in one place.
    crowd = [report.rows[-1].model_copy(update={"network": f"torchvision:rival_number_{letter}"}) for letter in "abc"]
    plot_report(report.model_copy(update={"rows": (*report.rows, *crowd)}), [tmp_path / "crowd.png"])
    for axes in drawn[0].axes[:3]:
        boxes = [label.get_window_extent() for label in axes.texts]
        assert len(boxes) == 6
        assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_accuracies_at_another_size_or_of_other_data_are_not_drawn(tmp_path: Path) -> None:
    report = benchmark_report()
    rows = tuple(row.model_copy(update={"size": "64x64", "energy": None}) for row in report.rows)
    with pytest.raises(UserError, match="no plot"):
        plot_report(report.model_copy(update={"rows": rows}), [tmp_path / "a.png"])
    assert list(tmp_path.iterdir()) == []


def test_without_energy_two_panels_are_left(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    report: Report = benchmark_report()
    rows = tuple(row.model_copy(update={"energy": None}) for row in report.rows)
    plot_report(report.model_copy(update={"rows": rows}), [tmp_path / "a.svg"])
    assert len(drawn[0].axes) == 2


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("espnetv2_s1_25", ("ESPNetv2", 1.25)),
        ("espnetv2_seg_s0_5.cityscapes_256", ("ESPNetv2 pyramid", 0.5)),
        ("espnetv2_seg_psp_s2_0", ("ESPNetv2 psp", 2.0)),
        ("timm:ghostnet_130", ("ghostnet", 1.3)),
        ("timm:mobilenetv4_conv_small_050", ("mobilenetv4_conv_small", 0.5)),
        ("torchvision:shufflenet_v2_x0_5", ("shufflenet_v2", 0.5)),
        ("torchvision:mobilenet_v2", ("mobilenet_v2", None)),
        ("torchvision:vit_b_16", ("vit_b_16", None)),
        ("smp:fpn/mobilenet_v2", ("fpn/mobilenet_v2", None)),
        ("folder/best.onnx", ("best.onnx", None)),
    ],
)
def test_families_and_width_multipliers(network: str, expected: tuple[str, float | None]) -> None:
    assert family(network) == expected


def test_other_suffixes_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'cannot be a ".jpg" file: use .png or .svg'):
        plot_paths(tmp_path / "a.jpg")
    assert plot_paths(tmp_path / "a.png") == [tmp_path / "a.png"]
