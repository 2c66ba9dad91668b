from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from espnetv2 import create_model
from espnetv2.errors import UserError
from espnetv2.training.distillation import Teacher, load_teacher
from espnetv2.training.folder import read_metrics
from espnetv2.training.hardware import Hardware
from espnetv2.training.recipe import load_recipe
from espnetv2.training.run import train
from small_data import SHAPE_CLASSES, make_shapes

MODEL = "espnetv2_seg_s0_5"


def test_the_divergence_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes and an output that is none; of four pixels the first counts, where the teacher says 3/4 and the other 1/2."""
    teacher = Teacher(create_model(MODEL, num_classes=3), classes=2, kernels=False)
    theirs = torch.full((1, 3, 2, 2), 9.0)
    theirs[0, :2, 0, 0] = torch.tensor([math.log(3.0), 0.0])
    monkeypatch.setattr(teacher, "forward", lambda _: theirs)
    ours = torch.zeros(1, 3, 2, 2)
    ours[0, 2] = 5.0
    total, weight = teacher.divergence(torch.zeros(1, 3, 2, 2), ours)
    assert float(total) == pytest.approx(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5), rel=1e-5)
    assert weight == 1


def test_beyond_the_edge_there_is_nothing_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two pixels that count, the first is inside: the teacher says 3/4 there, the other 1/2."""
    teacher = Teacher(create_model(MODEL, num_classes=2), classes=2, kernels=False)
    theirs = torch.zeros(1, 2, 2, 4)
    theirs[0, 0, 0, 0], theirs[0, 0, 0, 2] = math.log(3.0), 5.0
    monkeypatch.setattr(teacher, "forward", lambda _: theirs)
    inside = torch.tensor([[[True, True, False, False]] * 2])
    total, weight = teacher.divergence(torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 2, 4), inside)
    assert float(total) == pytest.approx(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5), rel=1e-5)
    assert weight == 1


@pytest.mark.parametrize("name", ["espnetv2_s0_5", MODEL])
def test_a_network_does_not_diverge_from_itself(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_classes=5).eval()
    images = torch.randn(2, 3, 32, 64)
    logits = network(images).detach()
    for kernels in (False, True):
        teacher = Teacher(network, classes=5, kernels=kernels)
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        own, other = teacher.divergence(images, logits), teacher.divergence(images, torch.zeros_like(logits))
        assert own.weight == (2 if name == "espnetv2_s0_5" else 2 * 16 * 32)
        assert abs(float(own.total)) < 1e-3 * float(other.total)


def test_a_run_learns_from_the_answers_too(tmp_path: Path) -> None:
    shapes = make_shapes(tmp_path / "shapes")
    small = ["input_size=48x32", "batch_size=2", "epochs=1", "workers=0", "lr=0.002"]

    def run(name: str, *changes: str) -> Path:
        recipe = load_recipe("segmentation", [*small, *changes])
        return train(recipe, MODEL, shapes, tmp_path / name, hardware=Hardware(device="cpu"))

    teacher = f"teacher={run('teacher')}"
    run("none", teacher, "loss.distillation=0")
    run("one", teacher)
    run("two", teacher, "loss.distillation=2")
    alone, none, one, two = (read_metrics(tmp_path / name / "metrics.csv") for name in ("teacher", "none", "one", "two"))
    assert none == alone
    first, more, most = (rows[0]["train_loss"] for rows in (none, one, two))
    assert most > more > first
    assert most - first == pytest.approx(2 * (more - first), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["teacher=espnetv2_seg_s0_5.cityscapes_256"],
            r"has other classes \(road, sidewalk, building, … instead of background",
        ),
        (["teacher=espnetv2_s0_5.imagenette"], "is for classification, but the recipe is for segmentation"),
        (["teacher=absent.pth"], r'no checkpoint file "absent\.pth"'),
        (["teacher=espnetv2_seg_s0_5.absent"], "absent"),
    ],
)
def test_teachers_that_do_not_fit(changes: list[str], message: str) -> None:
    recipe = load_recipe("segmentation", changes)
    with pytest.raises(UserError, match=message):
        load_teacher(recipe, SHAPE_CLASSES, None, kernels=False)


def test_a_teacher_that_is_used_to_other_pictures() -> None:
    name = "espnetv2_seg_s0_5.cityscapes_256"
    info = create_model(name).info
    assert info is not None
    recipe = load_recipe("segmentation", [f"teacher={name}", "channels=BGR"])
    with pytest.raises(UserError, match="has channels RGB, but the recipe has BGR: both get the same batch"):
        load_teacher(recipe, info.classes, None, kernels=False)
    assert load_teacher(load_recipe("segmentation", [f"teacher={name}"]), info.classes, None, kernels=False) is not None
