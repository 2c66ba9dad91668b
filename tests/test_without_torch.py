"""An edge board has no torch: exported files are predicted and evaluated all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from espnetv2.exporting.export import export
from espnetv2.factory import create_model
from helpers import picture
from small_data import make_shapes

PROGRAM = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

sys.meta_path.insert(0, NoTorch())
from espnetv2.cli.main import main
main()
"""


def run_without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_predict_and_evaluate(segmentation_file: Path, tmp_path: Path) -> None:
    file = export(create_model("espnetv2_seg_s0_5", weights=segmentation_file), tmp_path / "model.onnx").path
    picture(90, 50).save(tmp_path / "photo.png")
    done = run_without_torch("predict", tmp_path / "photo.png", "--model", file, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["width"] == 90
    make_shapes(tmp_path / "data")
    done = run_without_torch("evaluate", file, "--data", tmp_path / "data", "--out", tmp_path / "plots")
    # Everything works up to the question whether the classes are the same, which they are not.
    assert (done.returncode, "classes" in done.stderr) == (2, True), done.stderr


def test_what_needs_torch_says_so(tmp_path: Path) -> None:
    picture(90, 50).save(tmp_path / "photo.png")
    done = run_without_torch("predict", tmp_path / "photo.png", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "requires torch, which is not installed" in done.stderr


def test_models_are_listed() -> None:
    done = run_without_torch("models", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 16
