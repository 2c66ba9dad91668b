"""``espnetv2 models``: list the models and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from espnetv2.cli import options
from espnetv2.cli.output import print_json, print_table, stdout

if TYPE_CHECKING:
    from espnetv2.models.registry import ModelSpec
    from espnetv2.weights.catalogue import WeightEntry

COLUMNS = ("model", "weights", "metric", "parameters", "MACs", "input", "on disk", "published", "licence")
SPARE = ("published", "licence", "on disk", "MACs", "parameters", "input")
NOTES = {
    "MACs": "MACs: multiply-accumulates of the convolutions, at 224x224 (classification) or 1024x512 (segmentation).",
    "published": "Published: parameters of the authors' network, which includes some that are never trained.",
    "metric": "Metrics are in percent, on the data set's validation images: top-1/top-5, or mean IoU. They are the published "
    "ones for released weights, and this project's own measurements (docs/results.md) for those in this package; "
    "cityscapes_256 was measured on images of 256x256 pixels, and is not comparable with the other Cityscapes weights.",
    "licence": "The licence is that of the weights; the training data has terms of its own, for ImageNet, Cityscapes and "
    "CamVid research only (docs/weights.md).",
}


def models(weights_dir: options.WeightsDir = None, json: options.Json = False) -> None:
    """List every model and its weights: size, cost, accuracy, licence, and whether the file is on this machine."""
    from espnetv2.models.registry import MODELS
    from espnetv2.weights.catalogue import catalogue
    from espnetv2.weights.download import is_local

    rows = []
    for spec in MODELS.values():
        entries = [entry for entry in catalogue().values() if entry.model == spec.name]
        weights = [_weight_row(entry, is_local(entry, weights_dir)) for entry in entries]
        rows.append(_model_row(spec) | {"weights": weights})
    if json:
        print_json(rows)
    else:
        _print_table(rows)


def _model_row(spec: ModelSpec) -> dict[str, Any]:
    height, width = spec.reference_size
    return {
        "model": spec.name,
        "task": spec.task,
        "parameters": spec.cost.parameters,
        "published_parameters": spec.cost.published_parameters,
        "macs": spec.cost.macs,
        "macs_size": f"{width}x{height}",
    }


def _weight_row(entry: WeightEntry, local: bool) -> dict[str, Any]:
    return {
        "tag": entry.tag,
        "input_size": entry.size,
        "metrics": entry.metrics,
        "licence": entry.licence,
        "source": entry.origin,
        "local": local,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Column

    numbers = ("parameters", "MACs", "published", "input")
    columns = [Column(name, justify="right" if name in numbers else "left") for name in COLUMNS]
    lines = []
    for row in rows:
        model = {
            "model": row["model"],
            "parameters": f"{row['parameters']:,}",
            "published": f"{row['published_parameters']:,}",
            "MACs": f"{row['macs'] / 1e6:,.2f} M",
        }
        for weights in row["weights"] or [None]:
            cells = model | _weight_cells(weights)
            lines.append([cells.get(name, "") for name in COLUMNS])
            model = {}
    shown = print_table(columns, lines, SPARE)
    console = stdout(wide=True)
    console.print()
    for note in [text for name, text in NOTES.items() if name in shown] + ["Refer to weights as MODEL.WEIGHTS."]:
        console.print(note, markup=False, highlight=False)


def _weight_cells(weights: dict[str, Any] | None) -> dict[str, str]:
    if weights is None:
        return {"weights": "none released"}
    metrics = weights["metrics"]
    if "top1" in metrics:
        metric = f"{metrics['top1']:.2f}/{metrics['top5']:.2f}"
    else:
        metric = f"{metrics['miou']} mIoU" if "miou" in metrics else "not published"
    return {
        "weights": weights["tag"],
        "metric": metric,
        "input": weights["input_size"],
        "on disk": "yes" if weights["local"] else "no",
        "licence": weights["licence"].partition(";")[0],
    }
