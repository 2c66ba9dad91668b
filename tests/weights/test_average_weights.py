from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from espnetv2.factory import create_model
from espnetv2.weights import load_checkpoint, save_checkpoint
from helpers import ROOT


def average(*files: Path, out: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "tools/average_weights.py"), *map(str, files), "--out", str(out)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_the_mean_of_two_files(tmp_path: Path) -> None:
    files: list[Path] = []
    for value, classes, ratio in ((1.0, "ab", 1.0), (4.0, "ab", 1.0), (4.0, "ac", 1.0), (4.0, "ab", 0.5)):
        network = create_model("espnetv2_s0_5", classes=list(classes))
        assert network.info is not None
        preprocessing = network.info.preprocessing.resized(64, 32 * (len(files) + 1))
        preprocessing = preprocessing.model_copy(update={"crop_ratio": ratio})
        network.info = network.info.model_copy(update={"preprocessing": preprocessing})
        torch.nn.init.constant_(network.encoder.level1.conv.weight, value)
        files.append(tmp_path / f"{len(files)}.safetensors")
        save_checkpoint(network.state_dict(), network.info, files[-1])
    done = average(*files[:2], out=tmp_path / "new/mean.safetensors")
    assert done.returncode == 0, done.stderr
    found = load_checkpoint(tmp_path / "new/mean.safetensors")
    assert (found.state_dict["encoder.level1.conv.weight"] == 2.5).all()
    assert found.info == load_checkpoint(files[1]).info
    for different in files[2:]:
        done = average(*files[:2], different, out=tmp_path / "no.safetensors")
        assert done.returncode == 1
        assert "0.safetensors is of another model, of other classes or outputs, or for another input" in done.stderr
        assert not (tmp_path / "no.safetensors").exists()
