"""``espnetv2 benchmark``: what networks cost, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espnetv2.cli import options
from espnetv2.cli.output import print_json, progress_bar, stderr, stdout
from espnetv2.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from espnetv2.benchmarking.report import Report


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="A model of `espnetv2 models`, with .TAG for its weights, a checkpoint or an exported file."
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="RIVAL",
            help="timm:NAME, torchvision:NAME, smp:DECODER/ENCODER or an exported file. May be repeated.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Input size; by default 224x224 to classify, 1024x512 to segment."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Images at once.")] = 1,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="eager, channels_last, compile, accelerated, streams, graphs, fused, onnxruntime, openvino or tensorrt. "
            "May be repeated; by default those that are at hand.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="By default one for every usable core.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Turns of each contender.")] = 20,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Accuracy beside cost, as FILE.png or FILE.svg, or both without a suffix."),
    ] = None,
    device: options.Device = "auto",
    weights_dir: options.WeightsDir = None,
    json: options.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the answer as Markdown.")] = False,
) -> int:
    """Measure size, operations, latency, memory and energy of networks, taking turns, each answer checked before it is timed."""
    from espnetv2.benchmarking.benchmark import benchmark
    from espnetv2.benchmarking.plots import plot_paths, plot_report
    from espnetv2.preprocessing import parse_size

    if json and markdown:
        raise UserError("--json and --markdown exclude each other: choose one")
    wanted = parse_size(size) if size else None
    paths = plot_paths(plot) if plot is not None else []
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
    drawn = not paths or not report.rows or _drawn(report, paths, plot_report)
    if not report.rows:
        return 2
    return 1 if report.refused or not drawn else 0
