"""``espnetv2 benchmark``: compare the cost of networks."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espnetv2.cli import options
from espnetv2.cli.output import print_json, print_table, progress_bar, stderr, stdout
from espnetv2.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from espnetv2.benchmarking.report import Report


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="NAME[.TAG] from `espnetv2 models`, a checkpoint, or anything --against takes."),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="RIVAL",
            help="timm:NAME, torchvision:NAME, smp:DECODER/ENCODER or an exported file. Repeatable.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="Input size; by default 224x224 (classification) or 1024x512 (segmentation)."
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images per batch.")] = 1,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="eager, channels_last, compile, accelerated, streams, graphs, fused, onnxruntime, openvino or tensorrt. "
            "Repeatable; by default accelerated, eager, and on a CPU onnxruntime and openvino if installed, on CUDA compile.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="CPU threads; by default one per usable core.")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, metavar="N", help="Rounds; each row takes one turn per round.")
    ] = 20,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Plot accuracy against cost to FILE.png or FILE.svg, or to both without a suffix."
        ),
    ] = None,
    device: options.Device = "auto",
    weights_dir: options.WeightsDir = None,
    json: options.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the result as Markdown.")] = False,
) -> int:
    """Measure the size, operations, latency, memory and energy of networks side by side.

    Rows are timed in turns, so that noise on the machine favours none, and each row's output is checked before it is timed.
    Whatever cannot be measured is reported with the reason; the rest is measured.
    """
    from espnetv2.benchmarking.benchmark import benchmark
    from espnetv2.benchmarking.plots import plot_paths
    from espnetv2.files import results_folder
    from espnetv2.preprocessing import parse_size

    if json and markdown:
        raise UserError("--json and --markdown are mutually exclusive: choose one")
    wanted = parse_size(size) if size else None
    paths = plot_paths(plot) if plot is not None else []
    # So that a plot that cannot be written fails before anything is measured.
    with results_folder(plot.parent) if plot is not None else nullcontext():
        with progress_bar() as bar:
            report = benchmark(
                models,
                against=against or (),
                size=wanted,
                batch=batch,
                backends=backend or (),
                threads=threads,
                device=device,
                rounds=rounds,
                weights_dir=weights_dir,
                progress=_Stages(bar),
            )
        _print(report, json=json, markdown=markdown)
        complete = _drawn(report, paths) and not report.refused
    return (0 if complete else 1) if report.rows else 2


class _Stages:
    """Shows one progress bar per stage of the run."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        # "preparing NAME": the first word is the stage, the rest only the position within it.
        kind = stage.partition(" ")[0]
        if self._task is None or kind != self._stage:
            self._stage, self._task = kind, self._bar.add_task(stage, total=total)
        self._bar.update(self._task, description=stage, completed=done, total=total)


def _print(report: Report, *, json: bool, markdown: bool) -> None:
    from espnetv2.benchmarking import tables

    for refusal in report.refused:
        _complain(tables.refusal_line(refusal))
    if json:
        print_json(report.model_dump(mode="json"))
    elif markdown:
        print(tables.markdown(report))
    else:
        console = stdout(wide=True)
        for line in tables.head(report):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for columns, rows in tables.tables(report):
            console.print()
            print_table(columns, rows, tables.SPARE)
        console.print()
        for line in tables.foot(report):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _drawn(report: Report, paths: list[Path]) -> bool:
    from espnetv2.benchmarking.plots import plot_report

    if not paths:
        return True
    try:
        plot_report(report, paths)
    except UserError as error:
        _complain(str(error))
        return False
    return True


def _complain(line: str) -> None:
    stderr().print(f"espnetv2: {line}", markup=False, highlight=False, soft_wrap=True)
