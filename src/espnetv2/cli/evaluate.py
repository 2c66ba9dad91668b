"""``espnetv2 evaluate``: the accuracy of a network on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espnetv2.cli import options
from espnetv2.cli.output import print_json, progress_bar, stderr, stdout

if TYPE_CHECKING:
    from espnetv2.metrics import Metrics


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="NAME[.TAG]", help="A model from `espnetv2 models`, or a checkpoint or exported file.")
    ],
    data: options.Data,
    dataset: options.Dataset = "auto",
    split: Annotated[str, typer.Option("--split", metavar="S", help="Split of the data set.")] = "val",
    weights: options.Weights = None,
    size: options.Size = None,
    mask_scale: options.MaskScale = 1.0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the plots.")] = Path("evaluation"),
    device: options.Device = "auto",
    devices: Annotated[
        int, typer.Option("--devices", min=1, metavar="N", help="Devices to share the work, one process each.")
    ] = 1,
    batch: options.Batch = None,
    backend: options.Backend = "auto",
    no_accelerate: options.NoAccelerate = False,
    weights_dir: options.WeightsDir = None,
    json: options.Json = False,
) -> None:
    """Compare the predictions for a split with its labels: mean IoU, or top-1 and top-5 accuracy, with plots.

    Predictions are those of `predict`; class maps are compared at the label's own resolution. Metrics are in percent.
    """
    from espnetv2.data.layouts import open_dataset
    from espnetv2.evaluation.evaluate import evaluate, evaluate_on_devices
    from espnetv2.files import results_folder
    from espnetv2.inference.options import PredictorOptions
    from espnetv2.ownership import check_replaceable
    from espnetv2.preprocessing import parse_size

    labelled = open_dataset(dataset, data, split, mask_scale=mask_scale)
    wanted = parse_size(size) if size else None
    confusion, per_class = out / "confusion.png", out / "per_class.png"
    choices = PredictorOptions(model, weights, device, wanted, batch, weights_dir, not no_accelerate, backend)
    with results_folder(out):
        check_replaceable(confusion, per_class)
        with progress_bar() as progress:
            task = progress.add_task("evaluating", total=len(labelled))
            if devices == 1:
                metrics = evaluate(choices.make(), labelled, lambda: progress.advance(task))
            else:
                metrics = evaluate_on_devices(choices, labelled, devices, lambda: progress.advance(task))
        plots = _plot(metrics, confusion, per_class)
    report = {"model": model, "dataset": labelled.layout, "split": split, **metrics.report()}
    if json:
        print_json(report | {"plots": [str(path) for path in plots]})
    else:
        _print_table(report, plots)


def _plot(metrics: Metrics, confusion: Path, per_class: Path) -> list[Path]:
    from espnetv2.evaluation.plots import plot_confusion, plot_per_class

    try:
        plot_confusion(metrics, confusion)
        plot_per_class(metrics, per_class)
    except Exception as error:
        # A plot that fails must not cost the metrics.
        stderr().print(f"espnetv2: no plots: {error}", markup=False, highlight=False, soft_wrap=True)
        return []
    return [confusion, per_class]


def _print_table(report: dict[str, Any], plots: list[Path]) -> None:
    from rich.table import Table
    from rich.text import Text

    segmentation = "miou" in report
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    table.add_column("IoU, %" if segmentation else "accuracy, %", justify="right")
    for name, value in report["per_class_iou" if segmentation else "per_class_accuracy"].items():
        table.add_row(Text(name), "not present" if value is None else f"{value:.2f}")
    stdout().print(table)
    names = {"miou": "mean IoU", "pixel_accuracy": "pixel accuracy", "top1": "top-1", "top5": "top-5"}
    figures = ", ".join(f"{name} {report[key]:.2f} %" for key, name in names.items() if key in report)
    stdout().print(f"\n{figures}, {report['images']} images", highlight=False)
    if report.get("absent"):
        stdout().print(f"classes without labels: {', '.join(report['absent'])}", highlight=False, markup=False)
    if plots:
        stdout().print(f"plots: {', '.join(map(str, plots))}", highlight=False, markup=False, soft_wrap=True)
