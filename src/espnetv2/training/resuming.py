"""What a folder may hold before a run starts or goes on in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from espnetv2.data.dataset import LabelledData, fingerprint
from espnetv2.errors import UserError
from espnetv2.info import ModelInfo
from espnetv2.training.folder import INFO_KEY, RunFolder
from espnetv2.training.recipe import Recipe, differences


def check_folder(folder: RunFolder, recipe: Recipe, say: Callable[[str], None], *, resume: bool, first: bool) -> None:
    """See that a run may start, or go on, in a folder.

    Args:
        folder: of the run.
        recipe: of the run.
        say: told that there is nothing to go on with.
        resume: whether it is to go on.
        first: whether this is the process that writes.

    Raises:
        UserError: there is a run already, none that can be gone on with, or one of another recipe.
    """
    if first and folder.best.exists() and not folder.last.exists():
        raise UserError(
            f"{folder.path} has best.safetensors but no last.ckpt to go on from: start from the weights with --init, "
            "in another --out"
        )
    if first and folder.holds_a_foreign_recipe():
        raise UserError(f"{folder.recipe} would be replaced, which no run has written: choose another --out")
    if resume:
        if first and not folder.last.exists():
            say(f"there is no run in {folder.path} yet: starting one")
        if folder.last.exists():
            folder.check_recipe(recipe)
    elif first and folder.last.exists():
        raise UserError(
            f"{folder.path} holds a run already: go on with it by the same command and --resume, or choose another --out"
        )


def check_same(
    kept: dict[str, Any], info: ModelInfo, training: LabelledData, validation: LabelledData, folder: RunFolder
) -> None:
    """See that the run that is gone on with had the same model, classes, recipe and pictures.

    Raises:
        UserError: it had not; says what differs.
    """
    before = ModelInfo.model_validate_json(kept[INFO_KEY])
    pairs: list[tuple[str, object, object]] = [
        ("model", before.model, info.model),
        ("classes", before.classes, info.classes),
        ("outputs", before.outputs, info.outputs),
        ("training pictures", kept["pictures"], len(training)),
    ]
    if changed := differences(Recipe.model_validate(before.recipe), Recipe.model_validate(info.recipe)):
        raise UserError(
            f"the recipe is not the one of {folder.path} ({'; '.join(changed)}): use it as it was, or another --out"
        )
    for name, old, new in pairs:
        if old != new:
            raise UserError(
                f"{folder.path} was started with other {name} ({old} before, {new} now): use the same, or another --out"
            )
    # Runs of earlier versions have kept none.
    if kept.get("data", now := fingerprint(training, validation)) != now:
        raise UserError(
            f"{folder.path} was started with other pictures (their files have other names): use the same, or another --out"
        )
