from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from espnetv2.errors import UserError
from espnetv2.info import generic_info
from espnetv2.models.registry import model_spec
from espnetv2.training import run
from espnetv2.training.folder import RunFolder
from espnetv2.training.recipe import load_recipe
from small_runs import run_small


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit to the size of files there")
def test_a_write_that_really_fails_is_told_and_keeps_the_old_state(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save({"step": 1}, generic_info(model_spec("espnetv2_s0_5"), 2))
    before = folder.last.read_bytes()
    program = f"""
import resource
import torch
from pathlib import Path
from espnetv2.errors import UserError
from espnetv2.info import generic_info
from espnetv2.models.registry import model_spec
from espnetv2.training.folder import RunFolder
info = generic_info(model_spec("espnetv2_s0_5"), 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    RunFolder(Path({str(tmp_path)!r})).save({{"weights": torch.zeros(1_000_000)}}, info)
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "free some space and resume with the same command and --resume" in done.stdout
    assert folder.last.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_files_of_others_are_told_from_a_runs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.foreign_file() is None
    folder.metrics.write_text("epoch,step\n0,1\n")
    assert folder.foreign_file() == folder.metrics
    folder.write_recipe(load_recipe("segmentation"))
    assert folder.foreign_file() is None
    folder.recipe.write_text("# mine\ntask: segmentation\n")
    assert folder.foreign_file() == folder.recipe


def test_two_processes_do_not_train_in_one_folder(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunFolder(tmp_path / "run").alone(), pytest.raises(UserError, match="another process is training"):
        run_small(shapes, tmp_path / "run", "epochs=1")
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {".lock"}
    run_small(shapes, tmp_path / "run", "epochs=1")


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_saves_meanwhile_is_kept(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    folder, count = RunFolder(tmp_path), run._class_weights

    def slowly(*arguments: Any) -> Any:
        folder.save({"step": 900}, generic_info(model_spec("espnetv2_s0_5"), 2))
        return count(*arguments)

    monkeypatch.setattr(run, "_class_weights", slowly)
    with pytest.raises(UserError, match=r"another process has trained in .* since this one started"):
        run_small(shapes, tmp_path, "epochs=1", resume=resume)
    assert torch.load(folder.last, weights_only=True)["step"] == 900
