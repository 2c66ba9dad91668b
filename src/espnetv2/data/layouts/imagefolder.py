"""Classification with a folder per class: ``<split>/<class>/*``."""

from __future__ import annotations

import logging
from pathlib import Path

from espnetv2.data.dataset import ClassificationData, file_blob
from espnetv2.data.layouts.common import looks_segmented, pictures_below, split_folder
from espnetv2.errors import UserError
from espnetv2.finding import IMAGE_SUFFIXES, is_own_folder, is_picture_file
from espnetv2.labels import IMAGENETTE_NAMES, Labels

log = logging.getLogger(__name__)


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return not looks_segmented(root) and any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.glob("*/*/*"))


def is_unsplit(root: Path) -> bool:
    """Whether the folder looks like class folders without a level for the splits."""
    homes = {path.parent for path in root.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES}
    return len(homes) >= 2 and not {"train", "val"} & {path.name for path in root.glob("*/")} and not looks_segmented(root)


def unsplit(root: Path) -> UserError:
    """The error for such a folder."""
    return UserError(
        f'"{root}" looks like class folders that are not split: move most images of each class to {root / "train"}/CLASS and '
        f"the others to {root / 'val'}/CLASS"
    )


def open_split(root: Path, split: str) -> ClassificationData:
    """One split; the class folders' names, sorted, are the classes. Imagenette's WordNet ids are replaced by class names.

    Raises:
        UserError: there are fewer than two classes, or a class has no images.
    """
    if is_unsplit(root):
        raise unsplit(root)
    folder = split_folder(root, split)
    classes = sorted(path for path in folder.iterdir() if is_own_folder(path))
    if len(classes) < 2:
        raise UserError(f"{folder} has {len(classes)} class folders: at least two are needed, one per class")
    if loose := sorted(path for path in folder.iterdir() if is_picture_file(path) and not path.name.startswith(".")):
        log.warning("%s: left out %d images that are in no class folder, the first is %s", folder, len(loose), loose[0].name)
    items = [(file_blob(path), index) for index, home in enumerate(classes) for path in pictures_below(home)]
    names = tuple(IMAGENETTE_NAMES.get(path.name, path.name) for path in classes)
    return ClassificationData("imagefolder", split, Labels(names, ()), items)
