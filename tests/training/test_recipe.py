from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from espnetv2.errors import UserError
from espnetv2.training.recipe import Recipe, differences, list_recipes, load_recipe, parse_recipe
from helpers import released_entry


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_of_the_package_is_valid_and_survives_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert parse_recipe(recipe.to_yaml(), name) == recipe


def test_the_published_results_have_a_recipe() -> None:
    published = {"imagenet", "cityscapes_psp"} | {f"{d}_pyramid_stage{s}" for d in ("cityscapes", "voc") for s in (1, 2)}
    ours = {"segmentation", "classification", "camvid", "cityscapes_256", "imagenette"}
    assert published | ours == set(list_recipes())
    imagenet = load_recipe("imagenet")
    assert (imagenet.batch_size, imagenet.epochs, imagenet.lr, imagenet.seed) == (512, 300, 0.1, 1882)
    assert imagenet.optimizer.nesterov
    stage2 = load_recipe("cityscapes_pyramid_stage2")
    assert stage2.freeze_batch_norm == "all"
    assert stage2.decoder_lr == 10
    assert len(stage2.loss.class_weights) == 20
    psp = load_recipe("cityscapes_psp")
    assert psp.pass_scales == (1.5, 1.25, 0.5, 0.75, 1.0)
    released = released_entry("espnetv2_seg_psp_s0_5").preprocessing()
    assert psp.preprocessing().channels == released.channels == "BGR"
    assert psp.mean == pytest.approx(released.mean)
    assert psp.std == pytest.approx(released.std)


def test_training_pictures_may_be_smaller_than_the_input() -> None:
    recipe = load_recipe("segmentation", ["input_size=512x256", "train_size=384x192", "pass_scales=[1, 0.5]"])
    assert recipe.size == (256, 512)
    assert recipe.training_sizes == [(192, 384), (96, 192)]
    assert load_recipe("segmentation", ["input_size=512x256"]).training_sizes == [(256, 512)]
    with pytest.raises(UserError, match="train_size"):
        load_recipe("segmentation", ["train_size=big"])


def test_changes_are_applied() -> None:
    recipe = load_recipe(
        "segmentation", ["epochs=3", "lr=1e-3", "loss.ohem=null", "schedule.name=poly", "augmentation.scale=[1, 2]"]
    )
    assert (recipe.epochs, recipe.lr, recipe.loss.ohem, recipe.schedule.name) == (3, 0.001, None, "poly")
    assert recipe.augmentation.scale == (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["epoch=3"], 'unknown key "epoch": did you mean "epochs"'),
        (["loss.omeh=0.5"], r'unknown key "loss\.omeh": did you mean "loss\.ohem"'),
        (["weight_decay=1"], r'did you mean "optimizer\.weight_decay"'),
        (["class_weights=data"], r'did you mean "loss\.class_weights"'),
        (["learning_rate=1"], 'did you mean "lr"'),
        (["imgsz=64"], 'did you mean "input_size"'),
        (["patience=3"], r"the keys are task, .*augmentation\.flip"),
        (["pass_scales=[]"], "pass_scales: "),
        (["std=[0, 0, 0]"], "std.0: input should be greater than 0"),
        (["lr=.inf"], "lr: input should be a finite number"),
        (["schedule.warmup_epochs=.inf"], "warmup_epochs: input should be a finite number"),
        (["epochs=0"], "epochs: input should be greater than or equal to 1"),
        (["optimizer=lion"], r"optimizer is 'lion', but has keys: set optimizer\.name, "),
        (["loss.class_weights=all"], r"loss\.class_weights: input should be 'none' or 'data' \(found 'all'\)"),
        (["epochs=many"], "epochs: .*'many'"),
        (["schedule.name=cosin"], "schedule.name: input should be"),
        (["epochs"], '"epochs" is not of the form key=value'),
        (["lr.x=1"], '"lr" has no nested keys'),
        (["input_size=huge"], "write WIDTHxHEIGHT"),
        (["schedule.name=hybrid", "epochs=50"], "becomes linear in epoch 61"),
        (
            ["augmentation.scale=[2, 1]"],
            r"segmentation: augmentation.scale goes from 2.0 to 1.0: give the smaller value first$",
        ),
        (
            ["task=classification", "loss.jaccard=1"],
            "loss.jaccard is 1.0, which has no effect for classification",
        ),
        (
            ["task=classification", "loss.jaccard=0", "shrink_to=32x32"],
            "shrink_to is 32x32, which has no effect",
        ),
        (["augmentation.mixup=0.5"], r"augmentation.mixup is 0.5, which has no effect for segmentation: leave it out$"),
        (["seed=100000000000000000000"], "seed: input should be less than 4294967296"),
        (["shrink_to=wide"], "write WIDTHxHEIGHT"),
    ],
)
def test_mistakes_name_the_key(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("segmentation", changes)


def test_text_is_kept_as_it_was_typed() -> None:
    found = load_recipe("segmentation", ["train_split=001", "val_split=1e3", "teacher=null"])
    assert (found.train_split, found.val_split, found.teacher) == ("001", "1e3", None)


def test_the_default_of_the_scale_is_of_the_task() -> None:
    shared = {"epochs": 1, "batch_size": 1, "lr": 1.0, "input_size": "8x8"}
    assert Recipe.model_validate({"task": "classification", **shared}).augmentation.scale == (0.08, 1)
    given = Recipe.model_validate({"task": "classification", **shared, "augmentation": {"scale": (0.5, 1), "flip": False}})
    assert (given.augmentation.scale, given.augmentation.flip) == ((0.5, 1), False)
    assert Recipe.model_validate({"task": "segmentation", **shared}).augmentation.scale == (0.5, 2)


def test_a_split_may_be_named_by_a_number() -> None:
    recipe = load_recipe("segmentation", ["train_split=0", "val_split='1'", "lr=1e-2"])
    assert (recipe.train_split, recipe.val_split, recipe.lr) == ("0", "1", 0.01)


def test_unknown_and_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no recipe "segmentatoin": did you mean "segmentation"'):
        load_recipe("segmentatoin")
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(str(tmp_path / "absent.yaml"))
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_recipe(str(tmp_path / "broken.yaml"))
    (tmp_path / "latin.yaml").write_bytes("# Größe".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8 text"):
        load_recipe(str(tmp_path / "latin.yaml"))
    with pytest.raises(UserError, match=r"augmentation.scale goes up to 2.0, but here it is a fraction of the area"):
        load_recipe("classification", ["augmentation.scale=[0.5, 2.0]"])
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"task": "segmentation", "epochs": 1}))
    with pytest.raises(UserError, match="batch_size: field required"):
        load_recipe(str(tmp_path / "own.yaml"))


def test_differences_name_what_changed() -> None:
    before = load_recipe("segmentation")
    after = load_recipe("segmentation", ["lr=0.5", "loss.ohem=0.9"])
    assert differences(before, after) == ["loss.ohem: 0.7 -> 0.9", "lr: 0.002 -> 0.5"]
    assert differences(before, Recipe.model_validate(before.model_dump())) == []


def test_every_key_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| `([\w.]+)` \| (`.*?`|needed) \|", page, re.MULTILINE))
    needed = {"task": "segmentation", "epochs": 1, "batch_size": 1, "lr": 1.0, "input_size": "8x8"}
    found = Recipe.model_validate(needed).model_dump(mode="json")
    expected: dict[str, object] = {}
    for part, value in found.items():
        expected |= {f"{part}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {part: value}
    assert documented.keys() == expected.keys()
    for key, default in documented.items():
        assert (
            default == "needed" if key in needed else json.loads(default.strip("`")) == pytest.approx(expected[key], abs=1e-4)
        )
