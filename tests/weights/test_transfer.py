from __future__ import annotations

from pathlib import Path

import pytest
import torch

from espnetv2 import create_model
from espnetv2.info import ModelInfo
from espnetv2.preprocessing import Preprocessing
from espnetv2.weights import load_checkpoint, save_checkpoint
from espnetv2.weights.transfer import start_from

LAST = {
    "espnetv2_s0_5": "classifier",
    "espnetv2_seg_s0_5": "decoder.pool1.expand",
    "espnetv2_seg_psp_s0_5": "decoder.classify1.1",
}


def described(model: str, classes: tuple[str, ...], outputs: int) -> ModelInfo:
    palette = tuple((index, 0, 0) for index in range(len(classes)))
    return ModelInfo(
        model=model, outputs=outputs, classes=classes, palette=palette, preprocessing=Preprocessing(height=32, width=32)
    )


@pytest.mark.parametrize("model", LAST)
def test_classes_of_the_same_name_keep_their_rows(model: str, tmp_path: Path) -> None:
    before = create_model(model, num_classes=33)
    for parameter in before.get_submodule(LAST[model]).parameters():
        torch.nn.init.normal_(parameter)
    names = ("sky", "road", "tree")
    save_checkpoint(before.state_dict(), described(model, names, 33), tmp_path / "before.safetensors")
    # Other classes, another number of outputs: 34 are as wide within as 33.
    after = create_model(model, num_classes=34)
    line = start_from(after, described(model, ("road", "car", "sky"), 34), load_checkpoint(tmp_path / "before.safetensors"))
    old, new = (network.get_submodule(LAST[model]).state_dict() for network in (before, after))
    if old["weight"].shape[1:] != new["weight"].shape[1:]:
        # The decoder "psp" is as wide as its outputs within, too.
        assert "last layer" not in line
        return
    assert "; the last layer's rows for road, sky" in line
    for rows, kept in zip(new.values(), old.values(), strict=True):
        assert torch.equal(rows[0], kept[1])
        assert torch.equal(rows[2], kept[0])
        assert not rows[1].any()
        assert not rows[3:].any()


def test_the_same_classes_keep_every_row(tmp_path: Path) -> None:
    model, names = "espnetv2_seg_s0_5", ("sky", "road")
    before, after = create_model(model, num_classes=20), create_model(model, num_classes=20)
    save_checkpoint(before.state_dict(), described(model, names, 20), tmp_path / "before.safetensors")
    line = start_from(after, described(model, names, 20), load_checkpoint(tmp_path / "before.safetensors"))
    assert "last layer" not in line
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_the_same_classes_among_more_outputs_keep_their_rows(tmp_path: Path) -> None:
    model, names = "espnetv2_s0_5", ("sky", "road")
    before, after = create_model(model, num_classes=2), create_model(model, num_classes=5)
    save_checkpoint(before.state_dict(), described(model, names, 2), tmp_path / "before.safetensors")
    line = start_from(after, described(model, names, 5), load_checkpoint(tmp_path / "before.safetensors"))
    assert "the last layer's rows for sky, road" in line
    weight = after.state_dict()["classifier.weight"]
    assert torch.equal(weight[:2], before.state_dict()["classifier.weight"])
    assert not weight[2:].any()


def test_no_class_of_the_same_name(tmp_path: Path) -> None:
    model = "espnetv2_s0_5"
    save_checkpoint(
        create_model(model, num_classes=2).state_dict(), described(model, ("a", "b"), 2), tmp_path / "before.safetensors"
    )
    after = create_model(model, num_classes=2)
    assert start_from(after, described(model, ("c", "d"), 2), load_checkpoint(tmp_path / "before.safetensors")).endswith(
        "; no class has the same name"
    )
    assert not after.get_submodule("classifier").get_parameter("weight").any()
