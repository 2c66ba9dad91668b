"""``espnetv2 train``: train a network on your own images, or with a published recipe."""

from __future__ import annotations

from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from espnetv2.cli import options
from espnetv2.cli.output import fail, stderr, stdout
from espnetv2.errors import MissingPackageError


class Precision(str, Enum):
    """Numerical precision of training."""

    AUTO = "auto"
    FULL = "32-true"
    DOUBLE = "64-true"
    BF16 = "bf16-mixed"
    FP16 = "16-mixed"


RECIPES_HELP = (
    "segmentation or classification, for your own images; camvid, cityscapes_256, cityscapes_psp, "
    "cityscapes_pyramid_stage1, cityscapes_pyramid_stage2, imagenet, imagenette, voc_pyramid_stage1, "
    "voc_pyramid_stage2; or a YAML file."
)


def train(
    recipe: Annotated[str, typer.Option("--recipe", metavar="R", help=RECIPES_HELP)],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="A model from `espnetv2 models`.")],
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder for the run.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="D", help=f"{options.LAYOUTS_HELP} By default the recipe's.")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", metavar="WEIGHTS", help="Start from MODEL.TAG, a tag, or a checkpoint file.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as loss.ohem=0.7; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume exactly from RUN/last.ckpt; starts a new run if there is none.")
    ] = False,
    device: options.Device = "auto",
    devices: Annotated[int, typer.Option("--devices", min=1, metavar="N", help="Devices on this machine.")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, metavar="N", help="Machines, started by torchrun or SLURM.")] = 1,
    precision: Annotated[
        Precision, typer.Option("--precision", help="By default bfloat16 or float16 on a GPU.")
    ] = Precision.AUTO,
    weights_dir: options.WeightsDir = None,
) -> None:
    """Train with a recipe; RUN receives the resolved recipe, metrics, plots, samples, last.ckpt and best.safetensors."""
    for package in ("lightning", "matplotlib", "tensorboard"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "train", "training")
    from espnetv2.training.hardware import Hardware, process_rank
    from espnetv2.training.keeper import StoppedError
    from espnetv2.training.recipe import load_recipe
    from espnetv2.training.run import train as run

    def say(line: str) -> None:
        stderr().print(line, markup=False, highlight=False, soft_wrap=True)

    hardware = Hardware(device, devices, nodes, precision.value)
    resolved = load_recipe(recipe, [*([] if dataset is None else [f"dataset={dataset}"]), *(changes or ())])
    try:
        best = run(resolved, model, data, out, init=init, resume=resume, hardware=hardware, weights_dir=weights_dir, say=say)
    except StoppedError as error:
        when = "after saving the state" if error.saved else "at once; the state saved before is kept"
        fail(f"stopped by a signal {when}: resume with the same command and --resume", 128 + error.number)
    if process_rank() == 0:
        stdout().print(f"best weights: {best}", markup=False, highlight=False, soft_wrap=True)
