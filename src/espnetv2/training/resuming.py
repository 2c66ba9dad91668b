"""Check a run's folder before the run starts or resumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from espnetv2.data.dataset import LabelledData, fingerprint
from espnetv2.errors import UserError
from espnetv2.info import ModelInfo
from espnetv2.training.folder import INFO_KEY, RunFolder
from espnetv2.training.recipe import Recipe, differences


def check_folder(folder: RunFolder, recipe: Recipe, say: Callable[[str], None], *, resume: bool, first: bool) -> None:
    """Check that a run may start or resume in a folder.

    Args:
        folder: of the run.
        recipe: of the run.
        say: told if there is nothing to resume.
        resume: whether to resume.
        first: whether this is the process that writes.

    Raises:
        UserError: the folder already contains a run, one that cannot be resumed, or one with another recipe.
    """
    if first and folder.best.exists() and not folder.last.exists():
        raise UserError(
            f"{folder.path} has best.safetensors but no last.ckpt to resume from: start from the weights with --init, "
            "in another --out"
        )
    if first and (foreign := folder.foreign_file()):
        raise UserError(f"{foreign} would be overwritten, but no run has written it: choose another --out")
    if resume:
        if first and not folder.last.exists():
            say(f"there is no run in {folder.path} yet: starting one")
        if folder.last.exists():
            folder.check_recipe(recipe)
    elif first and folder.last.exists():
        raise UserError(
            f"{folder.path} already contains a run: resume it with the same command and --resume, or choose another --out"
        )


def check_same(
    kept: dict[str, Any], info: ModelInfo, training: LabelledData, validation: LabelledData, folder: RunFolder
) -> None:
    """Check that the resumed run had the same model, classes, recipe and images.

    Raises:
        UserError: it had not; the message says what differs.
    """
    if kept["best"] is not None and not folder.best.exists():
        raise UserError(f"{folder.best}, the best weights until now, is missing: put it back, or train in another --out")
    try:
        before = ModelInfo.model_validate_json(kept[INFO_KEY])
        recipe = Recipe.model_validate(before.recipe)
    except ValidationError as error:
        raise UserError(f"{folder.last} was written by another version of this package: use that, or another --out") from error
    pairs: list[tuple[str, object, object]] = [
        ("model", before.model, info.model),
        ("classes", before.classes, info.classes),
        ("outputs", before.outputs, info.outputs),
        ("number of training images", kept["pictures"], len(training)),
    ]
    if changed := differences(recipe.shareable(), Recipe.model_validate(info.recipe).shareable()):
        raise UserError(
            f"the recipe differs from that of {folder.path} ({'; '.join(changed)}): use the original one, or another --out"
        )
    for name, old, new in pairs:
        if old != new:
            raise UserError(f"{folder.path} differs in {name} ({old} before, {new} now): use the same, or another --out")
    if kept["data"] != fingerprint(training, validation):
        raise UserError(
            f"{folder.path} was started with different images (by their file names): use the same, or another --out"
        )
