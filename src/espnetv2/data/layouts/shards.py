"""WebDataset tar shards: ``<split>-*.tar`` or ``<split>/*.tar``; the files of a sample share the name up to the first dot.

Each shard is indexed once, and samples are then read by offset. So images can be shuffled across all shards and distributed
over devices, and a run can resume within an epoch, none of which is possible with a stream of shards.
"""

from __future__ import annotations

import glob
import json
import tarfile
from pathlib import Path

from espnetv2.data.dataset import Blob, ClassificationData, LabelledData, SegmentationData
from espnetv2.data.layouts.common import no_split, read_text, visible
from espnetv2.data.layouts.description import FILE, read_description
from espnetv2.errors import UserError
from espnetv2.finding import IMAGE_SUFFIXES
from espnetv2.labels import Labels, generic_labels

CLASSES_FILE = "classes.json"
_MOST_UNNAMED = 100_000
_MOST_DIGITS = 18
_PICTURES = {suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES}
_MASKS = ("mask.png", "seg.png", "label.png")
Sample = dict[str, Blob]


def matches(root: Path) -> bool:
    """Whether the folder looks like this layout."""
    return bool(visible(root, "*.tar") or visible(root, "*/*.tar"))


def open_split(root: Path, split: str) -> LabelledData:
    """One split: classification with ``.cls`` files (a class index as text), segmentation with ``.mask.png`` files.

    Class names come from ``dataset.yaml``, or for classification from ``classes.json``, a list.

    Raises:
        UserError: there are no shards, one is damaged, or a sample lacks an image or a label.
    """
    if Path(split).is_absolute():
        raise UserError(f'no split "{split}": give its name, not a path')
    name = glob.escape(split)
    paths = [*visible(root, f"{name}-*.tar"), *visible(root, f"{name}.tar"), *visible(root / split, "*.tar")]
    if not paths:
        there = {path.stem.rpartition("-")[0] or path.stem for path in visible(root, "*.tar")}
        there |= {path.parent.name for path in visible(root, "*/*.tar")}
        place = f"file {root / f'{split}-*.tar'} or {root / split / '*.tar'}"
        raise no_split(split, place, sorted(there), "write the shards")
    samples = [sample for path in paths for sample in _read_index(path)]
    if not samples:
        raise UserError(f"{paths[0]} and the other shards contain no samples: they need files such as 0001.jpg and 0001.cls")
    return _classification(root, split, samples) if "cls" in samples[0] else _segmentation(root, split, samples)


def _read_index(path: Path) -> list[Sample]:
    samples: dict[str, Sample] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith("."):
                    continue
                key, _, kind = name.partition(".")
                blob = Blob(f"{path}:{member.name}", path, member.offset_data, member.size)
                samples.setdefault(f"{folder}/{key}", {})[kind.lower()] = blob
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path} is damaged or not a tar file ({error}): create the shard again") from error
    return list(samples.values())


def _picture(sample: Sample, named: str | None = None) -> Blob:
    for kind, blob in sample.items():
        if kind in _PICTURES:
            return blob
    raise UserError(f"{named or next(iter(sample.values())).name}: its sample has no image: add one such as .jpg")


def _segmentation(root: Path, split: str, samples: list[Sample]) -> SegmentationData:
    description = read_description(root)
    pairs = []
    for sample in samples:
        mask = next((sample[kind] for kind in _MASKS if kind in sample), None)
        # A JPEG image and its PNG mask may share the name.
        mask = mask or (sample.get("png") if "png" in sample and len(_PICTURES & sample.keys()) > 1 else None)
        if mask is None:
            raise UserError(f"{_picture(sample).name}: its sample has no mask: add one such as .mask.png")
        pairs.append((_picture({kind: blob for kind, blob in sample.items() if blob is not mask}, mask.name), mask))
    return SegmentationData("webdataset", split, description.labels(), pairs, description.codec())


def _classification(root: Path, split: str, samples: list[Sample]) -> ClassificationData:
    items = []
    for sample in samples:
        if "cls" not in sample:
            raise UserError(f"{_picture(sample).name}: its sample has no class: add a .cls file")
        text = sample["cls"].read().decode("ascii", "replace").strip()
        if not text.isdecimal() or len(text) > _MOST_DIGITS:
            raise UserError(f'{sample["cls"].name}: "{text}" is not a class index: write a number such as 0')
        items.append((_picture(sample), int(text)))
    highest = max(index for _, index in items)
    labels = _class_names(root, highest)
    if highest >= len(labels.classes):
        raise UserError(f"the shards of {split} have class {highest}, but only {len(labels.classes)} classes are named")
    if len(labels.classes) < 2:
        raise UserError(f"the shards of {split} have one class only: at least two are needed")
    return ClassificationData("webdataset", split, labels, items)


def _class_names(root: Path, highest: int) -> Labels:
    if (root / FILE).is_file():
        return Labels(read_description(root).labels().classes, ())
    path = root / CLASSES_FILE
    if path.is_file():
        try:
            names = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not valid JSON ({error})") from error
        if not isinstance(names, list) or len(set(map(str, names))) != len(names):
            raise UserError(f'{path} is not a list of distinct class names: write one such as ["cat", "dog"]')
        return Labels(tuple(map(str, names)), ())
    if highest >= _MOST_UNNAMED:
        raise UserError(f"class {highest} would be one of more than {_MOST_UNNAMED}: number the classes 0, 1, 2, ...")
    return Labels(generic_labels(highest + 1).classes, ())
