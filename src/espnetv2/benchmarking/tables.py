"""A readable report: lines about the machine, then tables, in a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Column

from espnetv2.benchmarking.report import Check, Refusal, Report, Row


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Row], str | None]
    right: bool = True


_NETWORK = _Column("network", lambda row: row.network, right=False)
COST = (
    _NETWORK,
    _Column("parameters", lambda row: _count(row.parameters)),
    _Column("published", lambda row: _count(row.published_parameters)),
    _Column("MACs, M", lambda row: _millions(row.macs)),
    _Column("linear, M", lambda row: _millions(row.matrix_macs)),
    _Column("weights, MB", lambda row: _megabytes(row.weight_bytes)),
    _Column("accuracy", lambda row: _accuracy(row)),
)
SPEED = (
    _NETWORK,
    _Column("backend", lambda row: row.backend, right=False),
    _Column("input", lambda row: row.size),
    _Column("median, ms", lambda row: _figures(row.latency.median_ms)),
    _Column("p95, ms", lambda row: _figures(row.latency.p95_ms)),
    _Column("spread", lambda row: f"{row.latency.spread_percent:.0f} %"),
    _Column("images/s", lambda row: _figures(row.images_per_second)),
    _Column("ratio", lambda row: f"{row.ratio:.2f}"),
    _Column("peak, MB", lambda row: _megabytes(row.memory.resident_bytes) if row.memory else None),
    _Column("working, MB", lambda row: _megabytes(row.memory.beyond_loading_bytes) if row.memory else None),
    _Column("GPU, MB", lambda row: _megabytes(row.memory.device_bytes) if row.memory else None),
    _Column("mJ/image", lambda row: _figures(1e3 * row.energy.joules_per_image) if row.energy else None),
    _Column("W", lambda row: _figures(row.energy.watts) if row.energy else None),
)
SPARE = (
    *("working, MB", "spread", "p95, ms", "W", "mJ/image", "GPU, MB", "peak, MB", "images/s"),
    *("linear, M", "published", "weights, MB"),
)
"""Titles of columns that a narrow terminal need not show, the least important first."""
LEGEND = (
    "MACs: multiply-accumulates of the convolutions, as in the published tables; those of linear layers are listed separately. "
    "Weights: size in float32, or of the exported file.",
    "Spread: interquartile range of the calls. Ratio: duration relative to the first row of the same task, each "
    "as the mean of its fastest quarter of turns. Peak: resident memory of a process that runs this row only; "
    "working: the part of it that was added after loading.",
)


def head(report: Report) -> list[str]:
    """The machine, what it ran, and what could have distorted the figures."""
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    memory = machine.memory_bytes / 2**30
    device = "" if machine.device == "cpu" else f", {machine.device}"
    idle = "" if report.idle_watts is None else f"; {report.idle_watts:.1f} W while idle, not subtracted"
    return [
        f"machine: {machine.processor}, {machine.cores} cores, {memory:.0f} GiB{device}, {machine.system}",
        f"versions: {versions}",
        f"run: batch {report.batch}, {machine.threads} threads, {report.rounds} rounds, one turn per row in each",
        f"clock: {machine.clock}",
        *(_check_line(check) for check in machine.checks),
        f"energy: {report.energy}{idle}",
    ]


def foot(report: Report) -> list[str]:
    """The meaning of the columns, and the sources of the accuracies."""
    named = {row.accuracy.weights: row.accuracy for row in report.rows if row.accuracy is not None}
    sources = [
        f"accuracy of {weights}: {accuracy.dataset}, {accuracy.size}, {accuracy.origin}" for weights, accuracy in named.items()
    ]
    return [*LEGEND, *sources] if report.rows else []


def refusal_line(refusal: Refusal) -> str:
    """One line: what is not measured, and why."""
    subject = " on ".join(part for part in (refusal.network, refusal.backend) if part is not None)
    return f"not measured: {subject}: {refusal.reason}"


def tables(report: Report) -> list[tuple[list[Column], list[list[str]]]]:
    """Cost and speed for a terminal: columns, and the cells of every row."""
    return [
        (
            [Column(column.title, justify="right" if column.right else "left") for column in columns],
            [[column.cell(row) or "" for column in columns] for row in rows],
        )
        for columns, rows in _parts(report)
    ]


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    lines = [f"- {line}" for line in head(report)]
    for columns, rows in _parts(report):
        lines += [
            "",
            f"| {' | '.join(column.title for column in columns)} |",
            f"|{'|'.join('---:' if column.right else '---' for column in columns)}|",
            *(f"| {' | '.join(column.cell(row) or '' for column in columns)} |" for row in rows),
        ]
    refused = [refusal_line(refusal) for refusal in report.refused]
    return "\n".join([*lines, "", *(f"- {line}" for line in foot(report) + refused)])


def _parts(report: Report) -> list[tuple[list[_Column], list[Row]]]:
    """The cost of each network, and the speed of every row. Empty columns are left out."""
    networks = list({row.network: row for row in report.rows}.values())
    parts = (COST, networks), (SPEED, list(report.rows))
    shown = [([column for column in columns if any(column.cell(row) for row in rows)], rows) for columns, rows in parts]
    return [(columns, rows) for columns, rows in shown if rows]


def _check_line(check: Check) -> str:
    verdict = {True: "passed", False: "FAILED", None: "cannot tell"}[check.passed]
    return f"check, {check.name}: {verdict}: {check.detail}"


def _accuracy(row: Row) -> str | None:
    if row.accuracy is None:
        return None
    metric = "top-1" if row.accuracy.metric == "top1" else "mIoU"
    return f"{row.accuracy.percent:.1f} {metric}"


def _figures(value: float) -> str:
    """At least three significant digits: 0.0421, 4.21, 42.1, 421."""
    digits = 1 if value >= 10 else 2 if value >= 1 else 4
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}f}"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _millions(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e6:,.2f}"


def _megabytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e6:,.1f}"
