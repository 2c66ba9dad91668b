"""What every registered model keeps to."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from espnetv2.errors import UserError
from espnetv2.factory import create_model
from espnetv2.info import generic_info
from espnetv2.models.registry import MODELS, ModelSpec
from espnetv2.weights import convert_official, load_checkpoint, save_checkpoint, to_official
from helpers import GOLDENS, analytic_image, assert_close_to_largest, filled

every_model = pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)


def with_known_parameters(spec: ModelSpec, num_classes: int | None = None) -> nn.Module:
    model = spec.build(num_classes).eval()
    shapes = {name: tensor.shape for name, tensor in to_official(model.state_dict(), data_parallel=False).items()}
    model.load_state_dict(convert_official(filled(shapes)))
    return model


def output_shape(spec: ModelSpec, batch: int, height: int, width: int, classes: int) -> tuple[int, ...]:
    return (batch, classes) if spec.task == "classification" else (batch, classes, height, width)


@every_model
def test_any_size_gives_finite_logits_of_the_right_shape(spec: ModelSpec) -> None:
    model = with_known_parameters(spec, 5)
    for height, width in ((1, 1), (1, 40), (7, 3), (33, 65), (64, 48)):
        with torch.no_grad():
            logits = model(analytic_image(height, width))
        assert logits.shape == output_shape(spec, 1, height, width, 5)
        assert torch.isfinite(logits).all()


@every_model
@pytest.mark.parametrize("classes", [1, 3])
def test_every_parameter_learns(spec: ModelSpec, classes: int) -> None:
    torch.manual_seed(0)
    model = spec.build(classes).train()
    image = torch.randn(2, 3, 64, 96)
    logits = model(image)
    assert logits.shape == output_shape(spec, 2, 64, 96, classes)
    torch.autograd.backward((logits * torch.randn_like(logits)).sum())
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@every_model
def test_pictures_of_a_batch_do_not_meet(spec: ModelSpec) -> None:
    model = with_known_parameters(spec, 4)
    first, second = analytic_image(48, 64), analytic_image(64, 48).transpose(2, 3)
    with torch.no_grad():
        together = model(torch.cat([first, second]))
        assert_close_to_largest(together[:1], model(first), 1e-5)
        assert_close_to_largest(together[1:], model(second), 1e-5)


@every_model
def test_memory_layout_does_not_matter(spec: ModelSpec) -> None:
    model = with_known_parameters(spec, 4)
    image = analytic_image(48, 64)
    strided = torch.stack([image, image], dim=-1)[..., 0]
    with torch.no_grad():
        expected = model(image)
        assert_close_to_largest(model(image.to(memory_format=torch.channels_last)), expected, 1e-5)
        assert_close_to_largest(model(strided), expected, 1e-5)


@every_model
def test_saved_and_loaded_it_is_the_same(spec: ModelSpec, tmp_path: Path) -> None:
    model = with_known_parameters(spec, 6)
    save_checkpoint(model.state_dict(), generic_info(spec, 6), tmp_path / "own.safetensors")
    torch.save(to_official(model.state_dict()), tmp_path / "official.pth")
    image = analytic_image(32, 48)
    for name in ("own.safetensors", "official.pth"):
        loaded = create_model(spec.name, weights=tmp_path / name)
        assert loaded.num_classes == 6
        with torch.no_grad():
            assert torch.equal(loaded(image), model(image))


@every_model
def test_official_names_convert_both_ways(spec: ModelSpec) -> None:
    own = spec.build(3).state_dict()
    official = to_official(own)
    back = convert_official(official)
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)


@every_model
def test_there_is_no_model_without_classes(spec: ModelSpec) -> None:
    with pytest.raises(UserError, match="at least 1, not 0"):
        spec.build(0)


@pytest.mark.parametrize("name", np.load(GOLDENS / "filled.npz").files)
def test_outputs_are_the_official_ones(name: str) -> None:
    golden = torch.from_numpy(np.load(GOLDENS / "filled.npz")[name])
    model_name, _, size = name.partition("@")
    height, width = map(int, size.split("x"))
    model = with_known_parameters(MODELS[model_name], golden.shape[1])
    with torch.no_grad():
        logits = model(analytic_image(height, width))
    assert_close_to_largest(logits if logits.ndim == 2 else logits[:, :, ::8, ::8], golden)


@pytest.mark.parametrize("name", json.loads((GOLDENS / "official_keys.json").read_text()))
def test_official_names_and_shapes_are_complete(name: str) -> None:
    expected = json.loads((GOLDENS / "official_keys.json").read_text())[name]
    model, _, classes = name.partition("/")
    official = to_official(MODELS[model].build(int(classes)).state_dict(), data_parallel=False)
    lines = sorted((key, "x".join(map(str, tensor.shape))) for key, tensor in official.items())
    assert len(lines) == expected["tensors"]
    assert sha256("\n".join(f"{key} {shape}" for key, shape in lines).encode()).hexdigest() == expected["sha256"]


def test_official_weights_give_the_official_outputs(official_weights: Path) -> None:
    folder = official_weights.parent / "goldens"
    checked = 0
    for file in sorted(folder.glob("*.npz")):
        goldens = np.load(file)
        for name in goldens.files:
            weights, _, size = name.rpartition("/")[2].partition("@")
            if not (official_weights / weights).is_file():
                continue
            checkpoint = load_checkpoint(official_weights / weights)
            model = create_model(checkpoint.spec.name, weights=official_weights / weights)
            height, width = map(int, size.split("x"))
            with torch.no_grad():
                logits = model(analytic_image(height, width))
            assert_close_to_largest(logits[:, :, ::8, ::8], torch.from_numpy(goldens[name]))
            checked += 1
    if not checked:
        pytest.skip("no golden outputs beside the released weight files")
