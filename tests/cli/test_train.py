from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from espnetv2.cli.train import RECIPES_HELP
from espnetv2.cores import usable_cores
from espnetv2.training.recipe import list_recipes
from helpers import Run
from small_data import make_shapes
from small_runs import command


def test_the_help_names_every_recipe() -> None:
    named = RECIPES_HELP.replace(";", ",").replace(" or ", ", ")
    assert set(list_recipes()) <= {word.strip() for word in named.split(",")}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        pytest.param(
            ["--set", "batch_size=3", "--devices", "2"],
            ["batch_size 3 cannot be divided evenly among 2 device(s)"],
            marks=pytest.mark.skipif(usable_cores() < 2, reason="this machine has one device"),
        ),
        (["--nodes", "2"], ["--nodes 2: start the command on every machine with torchrun"]),
        (["--devices", "500"], ["--devices 500: this machine has"]),
        (["--set", "val_split=test"], ['no split "test"', "for training with --set val_split=..."]),
        (["--set", "loss.class_weights=[1, 2]"], ["2 weights for 20 outputs"]),
        (["--set", "epoch=2"], ['unknown key "epoch"', "epochs"]),
        (["--init", "absent.pth"], ['no checkpoint file "absent.pth"']),
        (
            ["--recipe", "classification"],
            ["the recipe is for classification", "(layout masks, classes background, square, disc)"],
        ),
        (["--model", "espnetv2_s0_5"], ["espnetv2_s0_5 is for classification, but the recipe is for segmentation"]),
        (["--precision", "8"], ["--precision"]),
        (["--device", "cuda:77"], ["no device"]),
        (["--dataset", "voc"], ['no split "train"', "ImageSets"]),
        (["--set", "input_size=64"], ['"64" is not a size: write WIDTHxHEIGHT']),
        (
            ["--model", "espnetv2_seg_s0_5.cityscapes_256"],
            ["give the model, espnetv2_seg_s0_5, and start from them with --init espnetv2_seg_s0_5.cityscapes_256"],
        ),
        (["--model", "best.safetensors"], ["give the name of its model, and start from the file with --init best.safetensors"]),
    ],
)
def test_mistakes_are_reported_before_training(
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


def test_bad_data_is_reported_before_training(run: Run, tmp_path: Path) -> None:
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
