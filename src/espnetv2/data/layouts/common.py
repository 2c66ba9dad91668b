"""Shared by several layouts: finding files, pairing images with masks, and the errors of both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnetv2.data.dataset import Blob, file_blob
from espnetv2.errors import UserError, nearest
from espnetv2.finding import files_below, is_picture_file, pictures_in

_OF_PICTURES = {"images", "image", "imgs", "img", "img_dir", "jpegimages", "rgb"}
_OF_MASKS = {
    *("masks", "mask", "labels", "label", "annotations", "annotation", "ann", "ann_dir"),
    *("gt", "ground_truth", "segmentation", "segmentations", "segmentationclass"),
}
log = logging.getLogger(__name__)


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        # Windows programs may write a byte order mark first.
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders matching a pattern, sorted, without hidden ones, which some systems put beside each file."""
    found = folder.glob(pattern)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def looks_segmented(root: Path) -> bool:
    """Whether folders of images are next to folders of masks, at either level: such folders are not classes."""
    names = [{path.name.lower() for path in folder.glob("*/")} for folder in (root, *root.glob("*/"))]
    return (root / "dataset.yaml").is_file() or any(found & _OF_PICTURES and found & _OF_MASKS for found in names)


def split_folder(parent: Path, split: str) -> Path:
    """The folder of a split below ``parent``.

    Raises:
        UserError: there is none; the message names the existing ones.
    """
    folder = parent / split
    if not folder.is_dir():
        there = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        raise no_split(split, f"folder {folder}", there, f"move the images of each split into a folder such as {folder}")
    return folder


def no_split(split: str, place: str, there: Sequence[str], otherwise: str) -> UserError:
    """The error for a split that does not exist.

    Args:
        split: its name.
        place: the file or folder that is missing.
        there: the names of the existing splits.
        otherwise: what to do if none of them can take its place.
    """
    key = "train_split" if split == "train" else "val_split"
    # Images that are trained on say nothing as validation images.
    others = [name for name in there if {split, name} != {"train", "val"}]
    fix = f"{nearest(split, others)} (give it with --split, for training with --set {key}=...)" if others else otherwise
    return UserError(f'no split "{split}": there is no {place}; {fix}')


def pictures_below(folder: Path) -> list[Path]:
    """All images below a folder, sorted.

    Raises:
        UserError: there are none.
    """
    found = pictures_in(folder)
    if not found:
        raise UserError(f"no images below {folder}: it needs files such as .jpg or .png")
    return found


def masks_in(folder: Path, ending: str = "") -> dict[str, Path]:
    """Mask files in a folder by name, without ``ending`` and suffix; of two with the same name the lossless .png."""
    paths = [path for path in files_below(folder) if is_picture_file(path) and path.stem.endswith(ending)]
    return {path.stem.removesuffix(ending): path for path in _png_last(paths)}


def keyed(folder: Path) -> dict[str, Path]:
    """All images below a folder by their relative path without suffix; of two with the same name the .png.

    Raises:
        UserError: there are none.
    """
    paths = _png_last(pictures_below(folder))
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
    if left_out := sorted(set(paths) - set(found.values())):
        log.warning(
            "%s: left out %d images with the name of another and a different suffix, the first is %s",
            folder,
            len(left_out),
            left_out[0],
        )
    return found


def _png_last(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.suffix.lower() == ".png", path))


def pair(pictures: Iterable[tuple[str, Path]], masks: Mapping[str, Path], where: Path) -> list[tuple[Blob, Blob]]:
    """Images with the masks of the same key.

    Raises:
        UserError: an image has no mask.
    """
    pictures = list(pictures)
    without = [path for key, path in pictures if key not in masks]
    if without:
        raise UserError(
            f"{len(without)} of {len(pictures)} images have no mask in {where}, the first is {without[0]}: "
            "give each mask the name of its image"
        )
    return [(file_blob(path), file_blob(masks[key])) for key, path in pictures]
