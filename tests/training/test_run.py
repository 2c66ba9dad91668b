"""Whole runs on a small data set: what they leave, that they can be broken off and go on exactly, and what they refuse."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from PIL import Image

from espnetv2 import create_model
from espnetv2.cli.train import RECIPES_HELP
from espnetv2.errors import UserError
from espnetv2.metrics import SegmentationMetrics
from espnetv2.models.segmentation import SegmentationModel
from espnetv2.training.batches import TrainingSet
from espnetv2.training.folder import read_metrics
from espnetv2.training.hardware import Hardware
from espnetv2.training.keeper import StoppedError, StopSignal
from espnetv2.training.module import TrainingModule, _average_into
from espnetv2.training.optimizers import normalisation_to_keep
from espnetv2.training.progress import Progress
from espnetv2.training.recipe import list_recipes, load_recipe
from espnetv2.training.run import train
from espnetv2.weights import load_checkpoint
from helpers import SHAPE_CLASSES, Run, make_folders, make_shapes

MODEL = "espnetv2_seg_s0_5"
SMALL = ("input_size=48x32", "batch_size=2", "epochs=2", "workers=0", "lr=0.002")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes"))


def run_small(shapes: Path, out: Path, *changes: str, **options: Any) -> Path:
    recipe = load_recipe("segmentation", [*SMALL, *changes])
    return train(recipe, MODEL, shapes, out, hardware=Hardware(device="cpu"), **options)


def command(shapes: Path, out: Path, *more: str, changes: tuple[str, ...] = ()) -> list[str]:
    settings = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    program = [sys.executable, "-m", "espnetv2", "train", "--recipe", "segmentation", "--model", MODEL, "--device", "cpu"]
    return [*program, "--data", str(shapes), "--out", str(out), *settings, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def rows_of(out: Path) -> int:
    path = out / "metrics.csv"
    return path.read_text().count("\n") if path.is_file() else 0


def test_a_run_leaves_what_is_promised(shapes: Path, tmp_path: Path) -> None:
    said: list[str] = []
    best = run_small(shapes, tmp_path / "run", say=said.append)
    found = {path.name for path in (tmp_path / "run").iterdir()}
    expected = {"recipe.yaml", "metrics.csv", "last.ckpt", "best.safetensors", "curves.png", "confusion.png", "samples"}
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


def test_it_learns(shapes: Path, tmp_path: Path) -> None:
    run_small(shapes, tmp_path / "run", "epochs=10", "lr=0.02", "loss.ohem=null", "ema_decay=null", "validate_every=9")
    losses = [row["train_loss"] for row in read_metrics(tmp_path / "run/metrics.csv") if "val_loss" not in row]
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:3])


def test_classification_with_everything_on(tmp_path: Path) -> None:
    data = make_folders(tmp_path / "data")
    changes = ["input_size=32x32", "batch_size=4", "epochs=2", "workers=0", "augmentation.mixup=0.2", "augmentation.cutmix=1.0"]
    recipe = load_recipe("classification", [*changes, "accumulate=2", "validate_every=2"])
    best = train(recipe, "espnetv2_s0_5", data, tmp_path / "run", hardware=Hardware(device="cpu"))
    model = create_model("espnetv2_s0_5", weights=best)
    assert model.info is not None
    assert set(model.info.metrics) == {"top1", "top5"}
    assert sum("val_loss" in row for row in read_metrics(tmp_path / "run/metrics.csv")) == 1


def test_the_auxiliary_output_and_several_passes(shapes: Path, tmp_path: Path) -> None:
    changes = [*SMALL, "epochs=1", "batch_size=3", "pass_scales=[1.0, 0.5]", "loss.auxiliary=1.0", "outputs=4"]
    recipe = load_recipe("segmentation", changes)
    best = train(recipe, "espnetv2_seg_psp_s0_5", shapes, tmp_path / "run", hardware=Hardware(device="cpu"))
    assert create_model("espnetv2_seg_psp_s0_5", weights=best).num_classes == 4
    assert read_metrics(tmp_path / "run/metrics.csv")[-1]["step"] == 4


def test_killed_and_stopped_it_goes_on_exactly(shapes: Path, tmp_path: Path) -> None:
    changes = ("epochs=3", "workers=1", "checkpoint_steps=2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(shapes, whole, changes=changes), check=True, capture_output=True, env=environment())
    more: list[str] = []
    for wanted, how in ((3, signal.SIGKILL), (5, signal.SIGTERM)):
        program = command(shapes, broken, *more, changes=changes)
        process = subprocess.Popen(program, stderr=subprocess.PIPE, env=environment(), start_new_session=True)
        deadline = time.monotonic() + 120
        while rows_of(broken) < wanted + 1 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        # A scheduler signals every process of a job, those that load pictures, too.
        os.killpg(process.pid, how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 128 + signal.SIGTERM), errors.decode()
        more = ["--resume"]
    subprocess.run(command(shapes, broken, *more, changes=changes), check=True, capture_output=True, env=environment())
    assert (broken / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    first, second = (load_checkpoint(path / "best.safetensors").state_dict for path in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_is_a_wish_to_stop(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ignored where the tests run in the background of a script.
    before = signal.getsignal(signal.SIGINT)
    closed: list[bool] = []
    finish, close = TrainingModule.finish_step, Progress.close

    def interrupted(module: TrainingModule) -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return finish(module)

    def closing(progress: Progress) -> None:
        closed.append(True)
        close(progress)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "finish_step", interrupted)
        patch.setattr(Progress, "close", closing)
        with pytest.raises(StoppedError) as stopped:
            run_small(shapes, tmp_path / "run")
    assert stopped.value.number == signal.SIGINT
    assert closed == [True]
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["step"] == 1


def test_the_second_ctrl_c_is_not_waited_with() -> None:
    with StopSignal() as stop:
        stop.take_over()
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal here")
def test_a_lost_connection_stops_a_run_but_not_under_nohup() -> None:
    for before, expected in ((signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, None)):
        usual = signal.signal(signal.SIGHUP, before)
        try:
            with StopSignal() as stop:
                stop.take_over()
                signal.raise_signal(signal.SIGHUP)
                assert stop.received == expected
            assert signal.getsignal(signal.SIGHUP) == before
        finally:
            signal.signal(signal.SIGHUP, usual)


def test_stopped_while_it_validates_it_repeats_one_step(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_small(shapes, whole, "epochs=1")
    count = SegmentationMetrics.update

    def terminated(metrics: SegmentationMetrics, *arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        count(metrics, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationMetrics, "update", terminated)
        with pytest.raises(StoppedError):
            run_small(shapes, broken, "epochs=1")
    assert torch.load(broken / "last.ckpt", weights_only=True)["step"] == 2
    run_small(shapes, broken, "epochs=1", resume=True)
    assert (broken / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the processes do not see what a test has patched")
def test_a_process_that_dies_is_explained(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingSet, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match=r"a data loading process has died.*--set workers=0 .*--resume"):
        run_small(shapes, tmp_path / "run", "workers=1")


def test_no_state_of_the_precision_is_no_obstacle() -> None:
    """That of a run in float32, gone on with in float16."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)

    def refuse(_: object) -> None:
        raise AssertionError

    module: Any = SimpleNamespace(
        optimizers=lambda **_: optimizer,
        trainer=SimpleNamespace(precision_plugin=SimpleNamespace(load_state_dict=refuse)),
    )
    TrainingModule.restore_optimizer(module, {"optimizer": optimizer.state_dict(), "precision": {}})
    with pytest.raises(AssertionError):
        TrainingModule.restore_optimizer(module, {"optimizer": optimizer.state_dict(), "precision": {"scale": 2.0}})


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


@pytest.mark.parametrize("frozen", ["encoder", "all"])
def test_frozen_batch_normalisation_stays_frozen(shapes: Path, tmp_path: Path, frozen: str) -> None:
    start = run_small(shapes, tmp_path / "start", "epochs=1", "ema_decay=null")
    best = run_small(shapes, tmp_path / "run", f"freeze_batch_norm={frozen}", "ema_decay=null", init=str(start))
    before, after = load_checkpoint(start).state_dict, load_checkpoint(best).state_dict
    norms = {name.rpartition(".")[0] for name in before if name.endswith("running_mean")}
    for name, tensor in before.items():
        is_norm, in_encoder = name.rpartition(".")[0] in norms, name.startswith("encoder.")
        if is_norm and (in_encoder or frozen == "all"):
            assert torch.equal(tensor, after[name]), name
        elif name.endswith(("conv.weight", "running_mean")):
            assert not torch.equal(tensor, after[name]), name


def test_normalisation_over_several_gpus_is_frozen_too() -> None:
    recipe = load_recipe("segmentation", ["freeze_batch_norm=all"])
    network = TorchSyncBatchNorm().apply(create_model(MODEL, num_classes=3))
    assert isinstance(network, SegmentationModel)
    kept = normalisation_to_keep(network, recipe)
    assert len(kept) == sum(isinstance(layer, torch.nn.SyncBatchNorm) for layer in network.modules()) > 50


def test_a_frozen_encoder_does_not_move(shapes: Path, tmp_path: Path) -> None:
    start = run_small(shapes, tmp_path / "start", "epochs=1", "ema_decay=null")
    best = run_small(shapes, tmp_path / "run", "encoder_lr=0", "ema_decay=null", init=str(start))
    before, after = load_checkpoint(start).state_dict, load_checkpoint(best).state_dict
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)


def test_starting_from_other_weights(shapes: Path, tmp_path: Path, segmentation_file: Path) -> None:
    said: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", init=str(segmentation_file), say=said.append)
    assert any(line.startswith("starting from") and "the encoder and" in line for line in said)
    best = str(tmp_path / "run/best.safetensors")
    said.clear()
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


def test_the_moving_average_by_hand() -> None:
    average, model = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    torch.nn.init.constant_(model.weight, 3.0)
    model.load_state_dict({**model.state_dict(), "num_batches_tracked": torch.tensor(5)})
    _average_into(average, model, 0.25)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.state_dict()["num_batches_tracked"] == 5


def test_a_run_that_diverges_is_stopped_and_never_saved(shapes: Path, tmp_path: Path) -> None:
    hopeless = ("optimizer.name=sgd", "lr=1e30", "gradient_clip=null", "schedule.warmup_epochs=0", "epochs=5")
    with pytest.raises(UserError, match=r"(not finite at step \d+|have diverged by step \d+).*lower lr"):
        run_small(shapes, tmp_path / "run", *hopeless, "checkpoint_steps=1")
    assert not (tmp_path / "run/last.ckpt").exists()


def test_what_only_the_validation_shows_is_no_best(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = TrainingModule.validate
    monkeypatch.setattr(TrainingModule, "validate", lambda *arguments: (float("nan"), validate(*arguments)[1]))
    with pytest.raises(UserError, match=r"the validation loss is nan after step \d+: lower lr"):
        run_small(shapes, tmp_path / "run", "epochs=1")
    assert not (tmp_path / "run/best.safetensors").exists()


def test_a_run_without_its_state_is_not_started_over(shapes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", resume=True, say=lines.append)
    assert lines[0] == f"there is no run in {tmp_path / 'run'} yet: starting one"
    (tmp_path / "run/last.ckpt").unlink()
    before = (tmp_path / "run/best.safetensors").read_bytes()
    with pytest.raises(
        UserError, match=r"has best\.safetensors but no last\.ckpt to resume from: start from the weights with --init"
    ):
        run_small(shapes, tmp_path / "run", "epochs=1", resume=True)
    assert (tmp_path / "run/best.safetensors").read_bytes() == before


def test_a_batch_of_more_than_all_pictures_is_told(shapes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", "batch_size=8", say=lines.append)
    assert "batch_size 8 exceeds the 6 images: each is used several times per step" in lines


def test_the_help_names_every_recipe() -> None:
    named = RECIPES_HELP.replace(";", ",").replace(" or ", ", ").replace(" for pictures", ",")
    assert set(list_recipes()) <= {word.strip() for word in named.split(",")}


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    module = TrainingModule.__new__(TrainingModule)
    torch.nn.Module.__init__(module)
    module.bad_step, module.step, module.steps_per_epoch = None, 6, 4
    module._watch(torch.tensor(1.0))
    module.check_loss()
    module._watch(torch.tensor(float("nan")))
    module.step = 9
    module._watch(torch.tensor(float("inf")))
    with pytest.raises(UserError, match="not finite at step 7, epoch 1: lower lr"):
        module.check_loss()


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


def test_a_run_is_not_written_over_or_changed(shapes: Path, tmp_path: Path) -> None:
    run_small(shapes, tmp_path / "run", "epochs=1")
    with pytest.raises(UserError, match="already contains a run: resume it with the same command and --resume"):
        run_small(shapes, tmp_path / "run", "epochs=1")
    with pytest.raises(UserError, match=r"the recipe differs from that of .*run \(lr: 0\.002 -> 0\.5\)"):
        run_small(shapes, tmp_path / "run", "epochs=1", "lr=0.5", resume=True)
    recipe = load_recipe("segmentation", [*SMALL, "epochs=1"])
    with pytest.raises(UserError, match=r"differs in model \(espnetv2_seg_s0_5 before, espnetv2_seg_s1_0 now\)"):
        train(recipe, "espnetv2_seg_s1_0", shapes, tmp_path / "run", resume=True, hardware=Hardware(device="cpu"))
    before = (tmp_path / "run/metrics.csv").read_text()
    # What a run computes does not depend on these two.
    run_small(shapes, tmp_path / "run", "epochs=1", "workers=1", "checkpoint_steps=7", resume=True)
    assert (tmp_path / "run/metrics.csv").read_text() == before


def test_a_run_goes_on_with_the_pictures_that_it_was_started_with(shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    run_small(data, tmp_path / "run", "epochs=1")
    data.rename(tmp_path / "moved")
    run_small(tmp_path / "moved", tmp_path / "run", "epochs=1", resume=True)
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        first = min((tmp_path / "moved" / folder / "val").iterdir())
        first.rename(first.with_name(f"other{first.suffix or suffix}"))
    with pytest.raises(UserError, match="was started with different images"):
        run_small(tmp_path / "moved", tmp_path / "run", "epochs=1", resume=True)


def test_a_plot_that_fails_does_not_cost_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("no such font")

    for name in ("plot_curves", "draw_samples", "_plot_confusion"):
        monkeypatch.setattr(f"espnetv2.training.keeper.{name}", fails)
    best = run_small(shapes, tmp_path / "run", "epochs=1")
    assert best.is_file()
    assert (tmp_path / "run/last.ckpt").is_file()
    assert caplog.text.count("could not be drawn (ValueError: no such font)") == 3


def test_what_an_attempt_that_failed_early_leaves_is_no_obstacle(shapes: Path, tmp_path: Path) -> None:
    # As wide as one value per channel: normalisation cannot learn from that.
    with pytest.raises(UserError, match="needs more than one value per channel"):
        run_small(shapes, tmp_path / "run", "epochs=1", "batch_size=1", "input_size=16x16")
    assert [path.name for path in (tmp_path / "run").glob("recipe.yaml")] == ["recipe.yaml"]
    assert run_small(shapes, tmp_path / "run", "epochs=1", resume=True).is_file()


def test_a_recipe_of_the_users_is_not_written_over(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("# mine")
    with pytest.raises(UserError, match=r"recipe\.yaml would be overwritten, but no run has written it: choose another --out"):
        run_small(shapes, tmp_path, "epochs=1")
    assert (tmp_path / "recipe.yaml").read_text() == "# mine"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--set", "batch_size=3", "--devices", "2"], ["batch_size 3 cannot be divided evenly among 2 device(s)"]),
        (["--nodes", "2"], ["--nodes 2: start the command on every machine with torchrun"]),
        (["--devices", "500"], ["--devices 500: this machine has"]),
        (["--set", "val_split=test"], ['no split "test"']),
        (["--set", "loss.class_weights=[1, 2]"], ["2 weights for 20 outputs"]),
        (["--set", "epoch=2"], ['unknown key "epoch"', "epochs"]),
        (["--init", "absent.pth"], ['no checkpoint file "absent.pth"']),
        (["--recipe", "classification"], ["the recipe is for classification"]),
        (["--model", "espnetv2_s0_5"], ["espnetv2_s0_5 is for classification, but the recipe is for segmentation"]),
        (["--precision", "8"], ["--precision"]),
        (["--device", "cuda:77"], ["no device"]),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    run: Run, shapes: Path, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    out = tmp_path / "run"
    done = run(*command(shapes, out)[3:], *arguments)
    assert done.code == 2
    assert done.stderr.splitlines()[-1].startswith("espnetv2: error: ")
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    assert not out.exists()


def test_training_on_an_apple_gpu_is_refused(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    recipe = load_recipe("segmentation", SMALL)
    with pytest.raises(UserError, match=r'no training on "mps": .* choose --device cpu'):
        train(recipe, MODEL, shapes, tmp_path / "run", hardware=Hardware(device="mps"))


def test_bad_data_is_told_before_anything_starts(run: Run, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", count=2)
    Image.new("RGB", (48, 32), (7, 7, 7)).save(data / "masks/train/1.png")
    done = run(*command(data, tmp_path / "run")[3:])
    assert done.code == 2
    assert "unknown label values: (7, 7, 7) in 1 file such as" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_lightning_the_extra_is_named(run: Run, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espnetv2.cli.train.find_spec", lambda _: None)
    done = run(*command(shapes, tmp_path / "run")[3:])
    assert done.code == 2
    assert "pip install '.[train]'" in done.stderr
