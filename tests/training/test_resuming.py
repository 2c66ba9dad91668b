"""Runs that were stopped resume exactly; those that cannot be resumed are refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from espnetv2.errors import UserError
from espnetv2.metrics import SegmentationMetrics
from espnetv2.training.folder import INFO_KEY, read_metrics
from espnetv2.training.hardware import Hardware
from espnetv2.training.keeper import StoppedError, StopSignal, _drawing
from espnetv2.training.module import TrainingModule
from espnetv2.training.progress import Progress
from espnetv2.training.recipe import load_recipe
from espnetv2.training.run import train
from espnetv2.weights import load_checkpoint
from small_runs import SMALL, command, environment, rows_of, run_small


def test_a_killed_and_a_stopped_run_resume_exactly(shapes: Path, tmp_path: Path) -> None:
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


def test_a_run_leaves_no_temporary_files(shapes: Path, tmp_path: Path) -> None:
    # Not below tmp_path: the path of a socket in it must be short.
    with tempfile.TemporaryDirectory() as temporary:
        program = command(shapes, tmp_path / "run", changes=("epochs=1", "workers=1"))
        subprocess.run(program, check=True, capture_output=True, env=environment() | {"TMPDIR": temporary}, timeout=120)
        assert not list(Path(temporary).iterdir())


def test_ctrl_c_saves_and_stops(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopSignal() as stop:
        stop.take_over()
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
        # While a plot is drawn, too, whose failure does not end a run.
        with pytest.raises(StoppedError) as stopped, _drawing("curves"):
            signal.raise_signal(signal.SIGINT)
        assert not stopped.value.saved


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


def test_stopped_during_validation_one_step_is_repeated(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_resuming_in_another_precision() -> None:
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


def test_a_run_without_last_ckpt_is_not_restarted(shapes: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("part", "reason"),
    [("state_dict", r'Missing key\(s\) in state_dict: "[a-z0-9_.]+"'), ("optimizer", "'param_groups'")],
)
def test_a_last_ckpt_that_lacks_a_part_is_refused(shapes: Path, tmp_path: Path, part: str, reason: str) -> None:
    run_small(shapes, tmp_path / "run", "epochs=2", resume=True)
    last = tmp_path / "run/last.ckpt"
    kept = torch.load(last, weights_only=True)
    kept["step"] -= 1
    kept[part].popitem()
    torch.save(kept, last)
    with pytest.raises(UserError, match=rf"last\.ckpt does not hold what this run needs \(.*{reason}.*\): start the run again"):
        run_small(shapes, tmp_path / "run", "epochs=2", resume=True)


def test_a_run_is_not_overwritten_or_changed(shapes: Path, tmp_path: Path) -> None:
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
    lines: list[str] = []
    run_small(shapes, tmp_path / "run", "epochs=1", "workers=1", "checkpoint_steps=7", resume=True, say=lines.append)
    assert lines[-1] == f"the run in {tmp_path / 'run'} is complete, with all of its 1 epochs"
    assert (tmp_path / "run/metrics.csv").read_text() == before


def test_the_files_of_a_run_belong_together(shapes: Path, tmp_path: Path) -> None:
    run_small(shapes, tmp_path / "run", "epochs=1")
    best, metrics, last = (tmp_path / "run" / name for name in ("best.safetensors", "metrics.csv", "last.ckpt"))
    best.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"best\.safetensors, the best weights until now, is missing: put it back"):
        run_small(shapes, tmp_path / "run", "epochs=1", resume=True)
    (tmp_path / "elsewhere").rename(best)
    kept = torch.load(last, weights_only=True)
    torch.save({**kept, INFO_KEY: "{}"}, last)
    with pytest.raises(UserError, match="was written by another version of this package"):
        run_small(shapes, tmp_path / "run", "epochs=1", resume=True)
    text = metrics.read_text()
    metrics.write_text(text, "utf-8-sig")
    assert read_metrics(metrics)[0]["step"] == 1
    metrics.write_text(text.replace(",", ";"))
    with pytest.raises(UserError, match="has no columns epoch and step, separated by commas"):
        read_metrics(metrics)


def test_a_run_resumes_with_the_same_images_only(shapes: Path, tmp_path: Path) -> None:
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


def test_resuming_after_an_early_failure(shapes: Path, tmp_path: Path) -> None:
    # As wide as one value per channel: normalisation cannot learn from that.
    with pytest.raises(UserError, match="needs more than one value per channel"):
        run_small(shapes, tmp_path / "run", "epochs=1", "batch_size=1", "input_size=16x16")
    assert [path.name for path in (tmp_path / "run").glob("recipe.yaml")] == ["recipe.yaml"]
    assert run_small(shapes, tmp_path / "run", "epochs=1", resume=True).is_file()


def test_a_recipe_of_the_user_is_not_overwritten(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("# mine")
    with pytest.raises(UserError, match=r"recipe\.yaml would be overwritten, but no run has written it: choose another --out"):
        run_small(shapes, tmp_path, "epochs=1")
    assert (tmp_path / "recipe.yaml").read_text() == "# mine"


def test_the_folder_of_a_teacher_is_not_stored(shapes: Path, tmp_path: Path) -> None:
    teacher = run_small(shapes, tmp_path / "teacher", "epochs=1")
    best = run_small(shapes, tmp_path / "run", "epochs=1", f"teacher={teacher}")
    recipe = load_checkpoint(best).info.recipe
    assert recipe is not None
    assert recipe["teacher"] == "best.safetensors"
    assert run_small(shapes, tmp_path / "run", "epochs=1", f"teacher={teacher}", resume=True) == best
