"""Whole runs on a small data set: what they compute, leave and refuse."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from espnetv2 import Predictor, create_model
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.evaluation.evaluate import evaluate
from espnetv2.training.batches import TrainingSet
from espnetv2.training.folder import read_metrics
from espnetv2.training.hardware import Hardware
from espnetv2.training.recipe import load_recipe
from espnetv2.training.run import train
from espnetv2.weights import load_checkpoint
from small_data import SHAPE_CLASSES, make_folders
from small_runs import MODEL, SMALL, command, environment, run_small


def test_logits_are_adjusted_at_the_end(shapes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = load_checkpoint(run_small(shapes, tmp_path / "plain", "logit_adjustment=false"))
    assert "logit adjustment" not in capfd.readouterr().err
    adjusted = load_checkpoint(run_small(shapes, tmp_path / "adjusted"))
    shown = capfd.readouterr().err
    before, after = plain.info.metrics["miou"], adjusted.info.metrics["miou"]
    assert after > before
    assert f"logit adjustment: miou {before:.2f} -> {after:.2f}\n" in shown
    changed = {name for name, tensor in plain.state_dict.items() if not torch.equal(tensor, adjusted.state_dict[name])}
    assert changed == {"decoder.pool1.expand.bias"}
    data = open_dataset("auto", shapes, "val")
    assert evaluate(Predictor(tmp_path / "adjusted/best.safetensors"), data).summary()["miou"] == pytest.approx(after, abs=1e-3)


def test_a_kill_while_logits_are_adjusted_loses_nothing(shapes: Path, tmp_path: Path) -> None:
    whole = load_checkpoint(run_small(shapes, tmp_path / "whole"))
    dying = (
        "import os, signal, sys; from espnetv2.training import keeper; from espnetv2.cli.main import main; "
        "keeper.adjust_logits = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL); "
        "sys.argv = sys.argv[:1] + sys.argv[4:]; main()"
    )
    program = command(shapes, tmp_path / "killed")
    done = subprocess.run([sys.executable, "-c", dying, *program], env=environment(), capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = load_checkpoint(run_small(shapes, tmp_path / "killed", resume=True))
    assert resumed.info.metrics == whole.info.metrics
    assert all(torch.equal(tensor, resumed.state_dict[name]) for name, tensor in whole.state_dict.items())


def test_a_decoder_without_class_biases_is_not_adjusted(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    recipe = load_recipe("segmentation", [*SMALL, "epochs=1", "schedule.warmup_epochs=0"])
    train(recipe, "espnetv2_seg_psp_s0_5", shapes, tmp_path / "run", hardware=Hardware(device="cpu"), say=said.append)
    assert "logit_adjustment has no effect on espnetv2_seg_psp_s0_5, which ends without a bias for each class" in said


def test_files_of_a_run(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    best = run_small(shapes, tmp_path / "run", say=said.append)
    found = {path.name for path in (tmp_path / "run").iterdir()}
    expected = {
        ".lock",
        "recipe.yaml",
        "metrics.csv",
        "last.ckpt",
        "best.safetensors",
        "curves.png",
        "confusion.png",
        "samples",
    }
    assert found == expected | {"tensorboard"}
    assert sorted(path.name for path in (tmp_path / "run/samples").iterdir()) == ["epoch_0000.jpg", "epoch_0001.jpg"]
    for name in ("curves.png", "confusion.png"):
        with Image.open(tmp_path / "run" / name) as plot:
            assert plot.width > 300
    assert any("train: 6 images, 3 classes" in line for line in said)
    model = create_model(MODEL, weights=best)
    assert model.info is not None
    assert model.info.classes == SHAPE_CLASSES
    assert model.info.recipe is not None
    assert model.info.recipe["epochs"] == 2
    assert set(model.info.metrics) == {"miou", "pixel_accuracy"}
    rows = read_metrics(tmp_path / "run/metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert [row["epoch"] for row in rows] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert rows[3]["train_loss"] == pytest.approx(np.mean([row["train_loss"] for row in rows[:3]]))
    assert rows[3]["val_loss"] > 0
    # The resumable file loads like any checkpoint, and gives what was validated: the average.
    assert load_checkpoint(tmp_path / "run/last.ckpt").info.classes == SHAPE_CLASSES


def test_the_loss_falls(shapes: Path, tmp_path: Path) -> None:
    run_small(shapes, tmp_path / "run", "epochs=10", "lr=0.02", "loss.ohem=null", "ema_decay=null", "validate_every=9")
    losses = [row["train_loss"] for row in read_metrics(tmp_path / "run/metrics.csv") if "val_loss" not in row]
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:3])


def test_classification_with_mixing_and_accumulation(tmp_path: Path) -> None:
    data = make_folders(tmp_path / "data")
    changes = ["input_size=32x32", "batch_size=4", "epochs=2", "workers=0", "augmentation.mixup=0.2", "augmentation.cutmix=1.0"]
    recipe = load_recipe("classification", [*changes, "accumulate=2", "validate_every=2"])
    best = train(recipe, "espnetv2_s0_5", data, tmp_path / "run", hardware=Hardware(device="cpu"))
    model = create_model("espnetv2_s0_5", weights=best)
    assert model.info is not None
    assert set(model.info.metrics) == {"top1", "top5"}
    assert sum("val_loss" in row for row in read_metrics(tmp_path / "run/metrics.csv")) == 1


def test_auxiliary_output_and_several_passes(shapes: Path, tmp_path: Path) -> None:
    changes = [*SMALL, "epochs=1", "batch_size=3", "pass_scales=[1.0, 0.5]", "loss.auxiliary=1.0", "outputs=4"]
    recipe = load_recipe("segmentation", changes)
    best = train(recipe, "espnetv2_seg_psp_s0_5", shapes, tmp_path / "run", hardware=Hardware(device="cpu"))
    assert create_model("espnetv2_seg_psp_s0_5", weights=best).num_classes == 4
    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == 4


def test_two_processes_compute_what_one_does(shapes: Path, tmp_path: Path) -> None:
    """In double precision, since early gradients of batch normalisation amplify rounding."""
    teacher = run_small(shapes, tmp_path / "teacher", "epochs=1")
    changes = ("batch_size=4", "epochs=3", "loss.ohem=null", "loss.jaccard=0.5", "optimizer.name=sgd", f"teacher={teacher}")
    for name, more in (("one", ()), ("two", ("--devices", "2"))):
        program = command(shapes, tmp_path / name, "--precision", "64-true", *more, changes=changes)
        done = subprocess.run(program, capture_output=True, text=True, env=environment(), check=False)
        assert done.returncode == 0, done.stderr
    one, two = (read_metrics(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert second[key] == pytest.approx(value, rel=1e-6), key


def test_starting_from_other_weights(shapes: Path, tmp_path: Path, segmentation_file: Path) -> None:
    said: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", init=str(segmentation_file), say=said.append)
    assert any(line.startswith("starting from") and "the encoder and" in line for line in said)
    best = str(tmp_path / "run/best.safetensors")
    said.clear()
    assert not any("from random weights" in line for line in said)
    run_small(shapes, tmp_path / "again", "epochs=1", init=best, say=said.append)
    assert not any("the last layer's rows" in line or "trained with" in line for line in said)
    run_small(shapes, tmp_path / "swapped", "epochs=1", "channels=BGR", init=best, say=said.append)
    assert any("trained with channels RGB: the network learns" in line for line in said)
    description = shapes / "dataset.yaml"
    description.write_text(description.read_text().replace("disc", "wheel"))
    run_small(shapes, tmp_path / "renamed", "epochs=1", init=best, say=said.append)
    assert any("the last layer's rows for background, square" in line for line in said)
    recipe = load_recipe("segmentation", SMALL)
    with pytest.raises(UserError, match="whose encoder does not fit espnetv2_seg_s1_0"):
        train(recipe, "espnetv2_seg_s1_0", shapes, tmp_path / "no", init=str(segmentation_file))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("setting", ["encoder_lr=0", "freeze_batch_norm=all"])
def test_random_layers_are_not_frozen(shapes: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting} keeps what the network starts with, .* give --init"):
        run_small(shapes, tmp_path / "run", setting)
    assert not (tmp_path / "run").exists()


def test_a_warm_up_as_long_as_the_run_is_told(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", "schedule.warmup_epochs=2", say=said.append)
    assert [line for line in said if "rises" in line] == [
        "warning: the learning rate rises during 2 of 1 epochs: lower schedule.warmup_epochs"
    ]


def test_processes_of_a_launcher_that_do_not_train_together(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``torchrun --nproc-per-node 2`` without ``--devices 2``."""
    for name in ("RANK", "GROUP_RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UserError, match=r"the launcher started 2 processes, but --devices 1 and --nodes 1 ask for 1"):
        run_small(shapes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_set(shapes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", "batch_size=8", say=lines.append)
    assert "batch_size 8 exceeds the 6 images: each is used several times per step" in lines
    assert any(line.startswith("1 steps from random weights are few: with --init") for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the processes do not see what a test has patched")
def test_a_loader_process_that_dies(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingSet, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r"a data loading process has died.*--set workers=0 .*--resume"):
        run_small(shapes, tmp_path / "run", "workers=1")


def test_a_full_disk_keeps_the_last_checkpoint(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = torch.save, []

    def full_from_the_third_on(*arguments: Any) -> None:
        calls.append(arguments)
        # The first is before the validation, the second after it.
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(torch, "save", full_from_the_third_on)
    with pytest.raises(UserError, match="the disk is full"):
        run_small(shapes, tmp_path / "run")
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["step"] == 3
    assert not list((tmp_path / "run").glob(".partial-*"))


def test_a_full_disk_that_tensorboard_notices(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("add_scalar", "close"):
        monkeypatch.setattr(f"torch.utils.tensorboard.writer.SummaryWriter.{name}", full)
    with pytest.raises(UserError, match=r"the disk is full.* --resume"):
        run_small(shapes, tmp_path / "run")


def test_a_run_leaves_nothing_behind_in_its_process(shapes: Path, tmp_path: Path) -> None:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    run_small(shapes, tmp_path / "run", "workers=1", "epochs=1")
    assert not multiprocessing.active_children()
    with pytest.raises(UserError, match="not finite"):
        run_small(shapes, tmp_path / "diverging", "workers=1", "lr=1e30")
    assert not multiprocessing.active_children()
    assert logger.level == level


def test_a_plot_that_fails_does_not_cost_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("no such font")

    for name in ("plot_curves", "draw_samples", "_plot_confusion"):
        monkeypatch.setattr(f"espnetv2.training.keeper.{name}", fails)
    best = run_small(shapes, tmp_path / "run", "epochs=1", "logit_adjustment=false")
    assert best.is_file()
    assert (tmp_path / "run/last.ckpt").is_file()
    assert caplog.text.count("could not be drawn (ValueError: no such font)") == 3


def test_training_on_an_apple_gpu_is_refused(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    recipe = load_recipe("segmentation", SMALL)
    with pytest.raises(UserError, match=r'no training on "mps": .* choose --device cpu'):
        train(recipe, MODEL, shapes, tmp_path / "run", hardware=Hardware(device="mps"))
