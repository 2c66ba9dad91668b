r"""Make weights that the package carries out of a finished training run, and write their model card.

    python tools/bundle_weights.py RUN --tag camvid --dataset camvid --data ../shared/camvid --start NAME.cityscapes_1024x512 \
        --earlier-datasets cityscapes imagenet1k --hours 1.5 --machine "one core of an x86-64 CPU, torch 2.14.1" \
        --notes notes.md

The best weights of the run are cast to float16, measured again on the validation split, and refused if that costs more than
0.1 points. The command prints the row for ``src/espnetv2/weights/catalogue.yaml``.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from espnetv2.data.layouts import open_dataset
from espnetv2.evaluation.evaluate import evaluate
from espnetv2.factory import load_model
from espnetv2.inference.predictor import Predictor
from espnetv2.info import ModelInfo
from espnetv2.models.network import Network
from espnetv2.training.recipe import Recipe, changes, list_recipes, load_recipe
from espnetv2.weights import load_checkpoint, save_checkpoint
from espnetv2.weights.catalogue import BundledWeights, bundled_folder

LARGEST_LOSS = 0.1
CARDS = Path(__file__).parents[1] / "docs/models"
DATASETS = {
    "cityscapes": "Cityscapes squeezed to 256x256 (2975 training, 400 validation images); research only, no redistribution",
    "camvid": "CamVid, 11 classes (367 training, 101 validation images); research use (CC BY-NC)",
    "imagenette": "Imagenette, 160 px (9469 training, 1977 validation images); ImageNet's terms: research",
}


def main() -> None:
    """Read the arguments, write the file and the card, print the catalogue's row."""
    options = _options()
    if not (options.run / "metrics.csv").is_file():
        sys.exit(f"{options.run} has no metrics.csv: give the folder of a run")
    best = load_checkpoint(options.run / "best.safetensors")
    recipe = Recipe.model_validate(best.info.recipe)
    dataset = options.dataset
    info = best.info.model_copy(update={"tag": options.tag, "dataset": dataset, "source": "trained by this project"})
    command = _command(info, recipe, options)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in best.state_dict.items()}
    row = {
        "model": info.model,
        "tag": options.tag,
        "dataset": dataset,
        "earlier_datasets": options.earlier_datasets,
        "size": recipe.input_size,
    }
    entry = BundledWeights(**row, metrics={})
    network = load_model(best)
    full = _measure(network, recipe, options.data)
    network.load_state_dict(halved)
    report = _measure(network, recipe, options.data)
    main_metric = recipe.metric
    if full[main_metric] - report[main_metric] > LARGEST_LOSS:
        sys.exit(f"float16 costs too much: {main_metric} {full[main_metric]:.2f} -> {report[main_metric]:.2f}")
    names = ("miou", "pixel_accuracy") if recipe.task == "segmentation" else ("top1", "top5")
    metrics = {name: round(report[name], 2) for name in names}
    entry = entry.model_copy(update={"metrics": metrics})
    bundled_folder().mkdir(exist_ok=True)
    save_checkpoint(halved, info.model_copy(update={"metrics": metrics, "licence": entry.licence}), entry.path)
    CARDS.mkdir(exist_ok=True)
    (CARDS / f"{entry.name}.md").write_text(_card(entry, info, recipe, command, full, report, options), "utf-8")
    print(yaml.safe_dump([row | {"metrics": metrics}], sort_keys=False))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--tag", required=True)
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS))
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--start", required=True, help="what training started from: random, or a name given to --init")
    parser.add_argument(
        "--earlier-datasets", nargs="*", default=[], help="data that the start or the teachers were trained on, if others"
    )
    parser.add_argument("--hours", type=float, required=True, help="how long training took")
    parser.add_argument("--machine", required=True, help="what it ran on, such as: one core of an x86-64 CPU, torch 2.14.1")
    parser.add_argument("--notes", type=Path, help="Markdown of what is known to fail")
    return parser.parse_args()


def _measure(network: Network, recipe: Recipe, data: Path) -> dict[str, Any]:
    split = open_dataset(recipe.dataset, data, recipe.val_split, mask_scale=recipe.mask_scale)
    return evaluate(Predictor(network, device="cpu"), split).report()


def _command(info: ModelInfo, recipe: Recipe, options: argparse.Namespace) -> str:
    """The recipe of the package that is nearest to the run's, and what was changed of it."""
    changed = {name: changes(load_recipe(name), recipe) for name in list_recipes()}
    named = min(changed, key=lambda name: len(changed[name]))
    settings = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, (_, value) in changed[named].items()]
    if load_recipe(named, settings) != recipe:
        sys.exit(f"the run's recipe cannot be written as changes of {named}: keep it in the package first")
    sets = [word for setting in settings for word in ("--set", setting)]
    start = [] if options.start == "random" else ["--init", options.start]
    words = ["espnetv2", "train", "--recipe", named, *sets, "--model", info.model, "--data", options.data.name, *start]
    return shlex.join([*words, "--out", "RUN"])


def _card(
    entry: BundledWeights,
    info: ModelInfo,
    recipe: Recipe,
    command: str,
    full: dict[str, Any],
    report: dict[str, Any],
    options: argparse.Namespace,
) -> str:
    per_class = report.get("per_class_iou") or report["per_class_accuracy"]
    what = "IoU" if "per_class_iou" in report else "accuracy"
    figures = ", ".join(f"{name} {entry.metrics[name]:.2f}" for name in entry.metrics)
    with (options.run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        measured = [row for row in csv.DictReader(file) if row[recipe.metric]]
    best = int(max(measured, key=lambda row: float(row[recipe.metric]))["epoch"]) + 1
    done = int(measured[-1]["epoch"]) + 1
    rows = [f"| {name} | {'absent' if value is None else f'{value:.1f}'} |" for name, value in per_class.items()]
    notes = options.notes.read_text("utf-8").strip() if options.notes else "None beyond the classes with a low figure above."
    return f"""# {entry.name}

| | |
|---|---|
| data | {DATASETS[entry.dataset]} |
| licence | {entry.licence} |
| started from | {options.start} |
| command | `{command}` |
| seed | {recipe.seed} |
| trained | {done} of {recipe.epochs} epochs in about {options.hours:g} h on {options.machine}; best in epoch {best} |
| input | {entry.size}, {info.preprocessing.fit}{_shrinking(info)} |
| validation | {figures} ({report["images"]} images; float32: {full[recipe.metric]:.2f}) |
| file | {entry.path.stat().st_size / 1e6:.2f} MB, float16 |

## Per class

| class | {what}, % |
|---|---|
{chr(10).join(rows)}

## Known failures

{notes}
"""


def _shrinking(info: ModelInfo) -> str:
    if info.preprocessing.shrink_to is None:
        return ""
    height, width = info.preprocessing.shrink_to
    return f", larger images shrunk to {width}x{height} first"


if __name__ == "__main__":
    main()
