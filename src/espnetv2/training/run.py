"""A training run, from a recipe and a data set to the best weights."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

from espnetv2 import __version__
from espnetv2.acceleration.compiler import KernelsUnavailableError
from espnetv2.acceleration.training import accelerate_training
from espnetv2.data.check import check_split, differing_classes
from espnetv2.data.dataset import LabelledData, SegmentationData
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.factory import create_model
from espnetv2.files import results_folder, writable_folder
from espnetv2.info import ModelInfo
from espnetv2.models.network import Network
from espnetv2.models.registry import MODELS, model_spec
from espnetv2.training.adjustment import has_class_bias
from espnetv2.training.batches import steps_per_epoch
from espnetv2.training.distillation import load_teacher
from espnetv2.training.folder import RunFolder
from espnetv2.training.hardware import Arithmetic, Hardware, process_rank
from espnetv2.training.keeper import Keeper, StopSignal
from espnetv2.training.losses import weights_from_shares
from espnetv2.training.module import TrainingModule
from espnetv2.training.recipe import Recipe
from espnetv2.training.resuming import check_folder, check_same
from espnetv2.training.workers import check_workers
from espnetv2.weights.resolve import is_checkpoint, resolve
from espnetv2.weights.transfer import start_from

Say = Callable[[str], None]
FEW_STEPS = 2000
SHOWN_CLASSES = 4


def train(
    recipe: Recipe,
    model: str,
    data: str | Path,
    out: str | Path,
    *,
    init: str | None = None,
    resume: bool = False,
    hardware: Hardware | None = None,
    weights_dir: Path | None = None,
    say: Say = lambda _: None,
) -> Path:
    """Train a network and keep the best weights by the validation metric.

    Args:
        recipe: what is computed.
        model: name of the model.
        data: the data set's folder.
        out: folder of the run.
        init: weights to start from: ``model.tag``, a tag of the model, or a checkpoint file.
        resume: resume from ``last.ckpt`` in ``out``, if it exists.
        hardware: devices and precision.
        weights_dir: folder that is searched first for released files.
        say: receives lines that tell what was chosen, and why.

    Returns:
        path of the best weights.

    Raises:
        UserError: the recipe, the data, the folder or the devices make the run impossible or pointless.
        StoppedError: the run was asked to stop.
    """
    hardware = hardware or Hardware()
    data, out = Path(data), Path(out)
    folder = RunFolder(out)
    first = process_rank() == 0
    say = say if first else lambda _: None
    before = folder.stamp()
    check_folder(folder, recipe, say, resume=resume, first=first)
    accelerator = hardware.accelerator()
    precision = hardware.arithmetic(accelerator)
    hardware.check_batch(recipe)
    check_workers(recipe)
    base = model.partition(".")[0]
    if base != model and base in MODELS:
        raise UserError(f"{model} names weights: give the model, {base}, and start from them with --init {model}")
    if is_checkpoint(model):
        raise UserError(f"--model {model} is a file: give the name of its model, and start from the file with --init {model}")
    model_spec(model)
    training, validation = _open(recipe, data, say, check=first)
    network, info = _network(recipe, model, training)
    kept = folder.load() if resume and folder.last.is_file() else None
    if kept is not None:
        check_same(kept, info, training, validation, folder)
        if kept["step"] >= recipe.epochs * steps_per_epoch(len(training), recipe):
            say(f"the run in {out} is complete, with all of its {recipe.epochs} epochs")
            return folder.best
    if init is None and kept is None and (frozen := recipe.frozen):
        raise UserError(f"{frozen} keeps what the network starts with, which without --init is random: give --init")
    if recipe.schedule.warmup_epochs > recipe.epochs / 2:
        say(
            f"warning: the learning rate rises during {recipe.schedule.warmup_epochs:g} of {recipe.epochs} epochs: "
            "lower schedule.warmup_epochs"
        )
    if init is not None and kept is None:
        checkpoint = resolve(init, model=model, weights_dir=weights_dir)
        say(f"starting from {init}: {start_from(network, info, checkpoint)}")
    if recipe.logit_adjustment and not has_class_bias(network):
        say(f"logit_adjustment has no effect on {model}, which ends without a bias for each class")
    teacher = load_teacher(recipe, training.labels.classes, weights_dir, kernels=accelerator == "cpu")
    if teacher is not None:
        say(f"distilling from {recipe.teacher} in addition to the labels")
    with results_folder(out) if first else nullcontext():
        # Counting classes takes minutes: that nothing can be written should be known before.
        weights = _class_weights(recipe, training, network.num_classes, say)
    if first:
        writable_folder(out)
    with folder.alone() if first else nullcontext():
        if first:
            folder.check_unchanged(before)
            folder.tidy()
            folder.write_recipe(recipe)
        kernels = not recipe.compile and _accelerate(network, recipe, hardware, accelerator, say)
        module = TrainingModule(network, recipe, training, validation, weights, teacher=teacher, kernels=kernels)
        if kept is not None:
            with folder.restoring():
                module.restore_networks(kept)
            say(f"resuming after step {module.step} (in epoch {module.epoch + 1} of {recipe.epochs})")
        elif init is None and (steps := recipe.epochs * module.steps_per_epoch) < FEW_STEPS:
            say(
                f"{steps} steps from random weights are few: with --init the network starts from trained ones (espnetv2 models)"
            )
        say(f"training {model} on {hardware.processes} {accelerator} device(s), precision {precision}")
        with StopSignal() as stop:
            keeper = Keeper(folder, info, training, validation, kept, stop)
            _fit(module, keeper, hardware, accelerator, precision)
    return folder.best


def _accelerate(network: Network, recipe: Recipe, hardware: Hardware, accelerator: str, say: Say) -> bool:
    """Switch layers to their accelerated form; returns whether the loss has one, too."""
    if accelerator not in ("cpu", "cuda") or (accelerator == "cpu" and not recipe.channels_last):
        return False
    try:
        accelerate_training(network, accelerator if accelerator == "cpu" else f"cuda:{hardware.own_gpu()}")
    except KernelsUnavailableError as error:
        say(f"training with torch's own operators, which are slower: {error}")
        return False
    return accelerator == "cpu"


def _fit(module: TrainingModule, keeper: Keeper, hardware: Hardware, accelerator: str, precision: Arithmetic) -> None:
    recipe, several = module.recipe, hardware.processes > 1
    with _quiet():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=hardware.chosen(),
            num_nodes=hardware.nodes,
            strategy="ddp" if several else "auto",
            precision=precision,
            max_epochs=recipe.epochs - module.epoch,
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            sync_batchnorm=several and accelerator != "cpu",
            plugins=hardware.plugins(accelerator),
            callbacks=[keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module)
        except ValueError as error:
            if "Expected more than 1 value per channel" in str(error):
                raise UserError(
                    "batch normalisation needs more than one value per channel, but a single image of this size leaves only "
                    "one: set a larger batch_size or input_size"
                ) from error
            raise
        except RuntimeError as error:
            if several and "closed by peer" in str(error):
                raise UserError("another process of this run has stopped: see its own message for the reason") from error
            if re.search(r"DataLoader worker \(pid", str(error)):
                raise UserError(
                    "a data loading process has died, perhaps for lack of memory (in a container, of /dev/shm): resume with "
                    "the same command, fewer workers (--set workers=0 for none) and --resume"
                ) from error
            raise
        finally:
            module.close()
            keeper.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's own messages: the run reports what matters."""
    logger = logging.getLogger("lightning.pytorch")
    fabric = logging.getLogger("lightning.fabric")
    before = logger.level, fabric.level
    logger.setLevel(logging.ERROR)
    fabric.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", module="torch.*")
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")
            yield
    finally:
        logger.setLevel(before[0])
        fabric.setLevel(before[1])


def _open(recipe: Recipe, data: Path, say: Say, *, check: bool) -> tuple[LabelledData, LabelledData]:
    opened = [
        open_dataset(recipe.dataset, data, split, mask_scale=recipe.mask_scale)
        for split in (recipe.train_split, recipe.val_split)
    ]
    training, validation = opened
    task = "segmentation" if isinstance(training, SegmentationData) else "classification"
    if task != recipe.task:
        names = training.labels.classes
        shown = ", ".join(names[:SHOWN_CLASSES]) + (", …" if len(names) > SHOWN_CLASSES else "")
        raise UserError(
            f"the recipe is for {recipe.task}, but {data} is a data set for {task} "
            f"(layout {training.layout}, classes {shown}): "
            "choose another recipe, or give the layout if it was not recognised (--set dataset=...)"
        )
    if differing := differing_classes(opened):
        raise UserError(differing)
    for split in opened if check else ():
        report = check_split(split, quick=True)
        if report.errors:
            more = f" (and {len(report.errors) - 1} more: espnetv2 check-data)" if len(report.errors) > 1 else ""
            raise UserError(f"{report.errors[0]}{more}")
        say(f"{split.split}: {len(split)} images, {len(split.labels.classes)} classes, layout {split.layout}")
        for warning in report.warnings if split is training else ():
            say(f"warning: {warning}")
    if check and recipe.batch_size > len(training):
        say(f"batch_size {recipe.batch_size} exceeds the {len(training)} images: each is used several times per step")
    return training, validation


def _network(recipe: Recipe, model: str, data: LabelledData) -> tuple[Network, ModelInfo]:
    spec = model_spec(model)
    if spec.task != recipe.task:
        raise UserError(f"{model} is for {spec.task}, but the recipe is for {recipe.task}: choose another model or recipe")
    if recipe.loss.auxiliary and spec.decoder != "psp":
        raise UserError(f'loss.auxiliary has no effect on {model}: only the decoder "psp" has an auxiliary output')
    classes = len(data.labels.classes)
    outputs = max(recipe.outputs or 1, classes)
    torch.manual_seed(recipe.seed)
    network = create_model(model, num_classes=outputs)
    info = ModelInfo(
        model=model,
        outputs=outputs,
        classes=data.labels.classes,
        palette=data.labels.palette,
        preprocessing=recipe.preprocessing(),
        dataset=data.layout,
        recipe=recipe.shareable().model_dump(mode="json"),
        version=__version__,
    )
    return network, info


def _class_weights(recipe: Recipe, data: LabelledData, outputs: int, say: Say) -> list[float] | None:
    chosen = recipe.loss.class_weights
    if chosen == "none":
        return None
    if chosen == "data":
        say("counting the classes of the training labels")
        # The labels of a classification are known without decoding an image.
        report = check_split(data, quick=recipe.task == "classification")
        if report.errors:
            raise UserError(report.errors[0])
        shares = np.array(list(report.frequencies.values()))
        # Outputs beyond the classes have no labels, so their weights are never used.
        return [*weights_from_shares(shares), *(0.0 for _ in range(outputs - len(shares)))]
    if len(chosen) != outputs:
        raise UserError(f"loss.class_weights has {len(chosen)} weights for {outputs} outputs: give one per output")
    return list(chosen)
