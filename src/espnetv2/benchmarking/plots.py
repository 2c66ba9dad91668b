"""Plots of a report: accuracy against operations, latency and energy, and power over time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING

from espnetv2.benchmarking.report import Metric, Report, Row
from espnetv2.errors import UserError
from espnetv2.figures import new_figure, save_figure
from espnetv2.models.registry import MODELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

SUFFIXES = (".png", ".svg")
PANEL_WIDTH, PANEL_HEIGHT = 6.2, 4.6
OWN = "#3b7dd8"
OTHERS = ("#d8663b", "#4a9c5d", "#8c5fbf", "#b8860b", "#c2417f", "#2a9d9d", "#7a5c45", "#5b6470")
NAMES: dict[Metric, str] = {"top1": "top-1", "miou": "mean IoU"}
# 16 and 32 at the end of a name are the sizes of patches.
_WIDTH = re.compile(r"_(?:[xs](\d)[_.]?(\d+)|(\d)[_.](\d+)|(\d)(\d\d))$")
# Positions of a label relative to its point, in points: the nearest and most usual ones first.
_PLACES = [
    (reach * x, reach * y)
    for reach in (7, 15, 24)
    for x, y in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
]


@dataclass(frozen=True)
class Point:
    """A network in a plot."""

    family: str
    scale: float | None
    """Width multiplier, if the name contains one."""
    label: str
    row: Row
    accuracy: float


def plot_paths(path: Path) -> list[Path]:
    """The files of a plot called ``path``: that one, or without a suffix both a PNG and an SVG.

    Raises:
        UserError: another suffix, or matplotlib is missing.
    """
    if path.suffix not in ("", *SUFFIXES):
        raise UserError(f'a plot cannot be a "{path.suffix}" file: use .png or .svg, or leave out the suffix for both')
    new_figure(1, 1, extra="benchmark")
    return [path] if path.suffix else [path.with_suffix(suffix) for suffix in SUFFIXES]


def plot_report(report: Report, paths: Iterable[Path]) -> None:
    """Draw a panel for each cost that was measured for networks of known accuracy, and one for power.

    Each network is shown on the fastest of its backends.

    Raises:
        UserError: there is nothing to draw.
    """
    fastest = _fastest(report.rows)
    points = _points(fastest)
    panels: list[Callable[[Axes], None]] = []
    if any(point.row.macs is not None for point in points):
        panels.append(lambda axes: _accuracy(axes, points, _macs, "multiply-accumulates, million (convolutions and linear)"))
    if points:
        panels.append(lambda axes: _accuracy(axes, points, _milliseconds, _latency_title(points)))
    if any(point.row.energy is not None for point in points):
        panels.append(lambda axes: _accuracy(axes, points, _millijoules, "energy, mJ per image"))
    if powered := [row for row in fastest if row.energy is not None]:
        panels.append(lambda axes: _power(axes, powered, report.idle_watts))
    if not panels:
        raise UserError("no plot: no row has a power reading, or a known accuracy at the input size that was measured")
    figure = _draw(panels)
    for path in paths:
        save_figure(figure, path)


def _draw(panels: Sequence[Callable[[Axes], None]]) -> Figure:
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PANEL_WIDTH * columns, PANEL_HEIGHT * rows, extra="benchmark")
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        panel(axes)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    # Labels are placed on the finished layout, which they must not change.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        _spread_labels(axes)
    return figure


def _fastest(rows: Sequence[Row]) -> list[Row]:
    best: dict[str, Row] = {}
    for row in rows:
        if row.network not in best or row.latency.median_ms < best[row.network].latency.median_ms:
            best[row.network] = row
    return list(best.values())


def _points(rows: Sequence[Row]) -> list[Point]:
    """The rows with an accuracy that holds at their input size, on the data set that is the most common among them."""
    usable = [(row, row.accuracy) for row in rows if row.accuracy is not None and row.accuracy.size in (row.size, "any")]
    if not usable:
        return []
    common = mode((accuracy.metric, accuracy.dataset) for _, accuracy in usable)
    chosen = [(row, accuracy) for row, accuracy in usable if (accuracy.metric, accuracy.dataset) == common]
    families = [family(row.network) for row, _ in chosen]
    names = [name for name, _ in families]
    return [
        Point(
            name,
            scale,
            f"{scale:g}" if scale is not None and names.count(name) > 1 else _short(row.network),
            row,
            found.percent,
        )
        for (row, found), (name, scale) in zip(chosen, families, strict=True)
    ]


def family(network: str) -> tuple[str, float | None]:
    """A network's family and width multiplier: ``timm:ghostnet_130`` is ("ghostnet", 1.3)."""
    base = network.partition(".")[0]
    if base in MODELS:
        spec = MODELS[base]
        return "ESPNetv2" + (f" {spec.decoder}" if spec.decoder is not None else ""), spec.scale
    short = _short(network)
    if (found := _WIDTH.search(short)) is None:
        return short, None
    return short[: found.start()], float(".".join(digits for digits in found.groups() if digits))


def _short(network: str) -> str:
    return Path(network).name if "/" in network and ":" not in network else network.partition(":")[2] or network


def _macs(row: Row) -> float | None:
    return None if row.macs is None else (row.macs + (row.matrix_macs or 0)) / 1e6


def _milliseconds(row: Row) -> float | None:
    return row.latency.median_ms


def _millijoules(row: Row) -> float | None:
    return None if row.energy is None else 1e3 * row.energy.joules_per_image


def _latency_title(points: Sequence[Point]) -> str:
    row = points[0].row
    what = f"batch {row.batch}, {row.size}" if len({point.row.size for point in points}) == 1 else f"batch {row.batch}"
    return f"median latency, ms ({what}, fastest backend)"


def _accuracy(axes: Axes, points: Sequence[Point], cost: Callable[[Row], float | None], title: str) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shown = [(point, value) for point in points if (value := cost(point.row)) is not None]
    others = [name for name in dict.fromkeys(point.family for point, _ in shown) if not name.startswith("ESPNetv2")]
    for name in dict.fromkeys(point.family for point, _ in shown):
        members = sorted(((value, point) for point, value in shown if point.family == name), key=lambda member: member[0])
        colour = OTHERS[others.index(name) % len(OTHERS)] if name in others else OWN
        style = "--" if name.endswith("psp") else "-"
        label = name if len(members) > 1 or name not in others else None
        places = [value for value, _ in members], [point.accuracy for _, point in members]
        axes.plot(*places, style, marker="o", color=colour, lw=1.6, ms=6, label=label, zorder=2 if name in others else 3)
        for value, point in members:
            text = axes.annotate(point.label, (value, point.accuracy), (0, 0), textcoords="offset points", zorder=4)
            text.set(fontsize=8.5, color=colour, path_effects=[withStroke(linewidth=2.5, foreground="white")])
    metric = points[0].row.accuracy
    assert metric is not None
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.12)
    axes.set(xlabel=title, ylabel=f"{NAMES[metric.metric]}, % ({metric.dataset})")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", frameon=False, fontsize=9, title="width multiplier at each point", title_fontsize=8)


def _power(axes: Axes, rows: Sequence[Row], idle: float | None) -> None:
    from matplotlib import colormaps

    own = [row.network for row in rows if family(row.network)[0].startswith("ESPNetv2")]
    others = [row.network for row in rows if row.network not in own]
    for row in rows:
        assert row.energy is not None
        ours = row.network in own
        place = (own if ours else others).index(row.network)
        colour = colormaps["Blues"](0.45 + 0.5 * (place + 1) / len(own)) if ours else OTHERS[place % len(OTHERS)]
        seconds, watts = zip(*row.energy.samples, strict=True)
        name = f"{_short(row.network)}, {row.backend}: {row.energy.watts:.1f} W"
        axes.plot(seconds, watts, "-" if ours else "--", color=colour, lw=1.4, label=name)
    if idle is not None:
        axes.axhline(idle, color="#999999", ls=":", lw=1.2, label=f"idle: {idle:.1f} W")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="running time, s", ylabel="power, W")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _spread_labels(axes: Axes) -> None:
    """Move each label to the first position beside its point where it covers nothing, or else the least."""
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    anchors = [axes.transData.transform(label.xy) for label in labels]
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in anchors]
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent())
    bounds = axes.get_window_extent()
    for label in labels:
        costs = []
        for place in _PLACES:
            _put(label, place)
            costs.append(_covered(label.get_window_extent(), taken, bounds))
        _put(label, _PLACES[costs.index(min(costs))])
        taken.append(label.get_window_extent())


def _put(label: Annotation, place: tuple[float, float]) -> None:
    x, y = place
    label.set_position(place)
    label.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
    label.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")


def _covered(box: Bbox, taken: Sequence[Bbox], bounds: Bbox) -> float:
    """Area of other boxes that a box covers, plus its own area outside the bounds."""
    from matplotlib.transforms import Bbox

    shared = (Bbox.intersection(box, other) for other in taken)
    inside = Bbox.intersection(box, bounds)
    outside = box.width * box.height - (inside.width * inside.height if inside is not None else 0.0)
    return outside + sum(other.width * other.height for other in shared if other is not None)
