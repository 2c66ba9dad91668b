"""Check a data set before training on it. Nothing here needs torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.data.dataset import Blob, ClassificationData, LabelledData, SegmentationData, spread
from espnetv2.data.interpolation import is_interpolated
from espnetv2.drawing import at_width, blend, with_legend
from espnetv2.errors import UserError
from espnetv2.images import read_turned_picture
from espnetv2.labels import CAMVID, IGNORE, VOC, Colour, distinct_palette

SHOWN_FILES = 5
QUICK_SAMPLES = 24
THREADS = 2
OnImage = Callable[[], None]


@dataclass
class Report:
    """Findings about a split.

    Attributes:
        layout: name of the layout.
        split: name of the split.
        images: number of images in the split.
        looked_at: number of images that were decoded.
        sizes: number of images of each size (width, height).
        frequencies: fraction of the labelled pixels, or of the images, that belong to each class.
        unlabelled: fraction of the pixels without a class.
        errors: problems that make training or evaluation impossible.
        warnings: oddities that may be intended.
        contents: hash of a decoded image's file -> names of such files.
        drawn: value in masks whose values are read -> colours that their palettes give it -> a mask with that colour.
    """

    layout: str
    split: str
    images: int
    looked_at: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    frequencies: dict[str, float] = field(default_factory=dict)
    unlabelled: float = 0.0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    contents: dict[bytes, list[str]] = field(default_factory=dict, repr=False)
    drawn: dict[int, dict[Colour, str]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        sizes = {f"{width}x{height}": count for (width, height), count in self.sizes.most_common()}
        return {name: value for name, value in vars(self).items() if name not in ("contents", "drawn")} | {"sizes": sizes}


@dataclass
class _Finding:
    """Findings about one image and its label."""

    name: str
    label: str = ""
    digest: bytes | None = None
    size: tuple[int, int] | None = None
    counts: npt.NDArray[np.int64] | None = None
    error: str | None = None
    unknown: frozenset[Any] = frozenset()
    drawn: dict[int, Colour] = field(default_factory=dict)
    """How the mask draws the values that it contains."""
    transparent: bool = False
    turned: bool = False
    """Whether the EXIF orientation turns the image, and not the mask in the same way."""
    interpolated: bool | None = None


def check_split(data: LabelledData, *, quick: bool = False, on_image: OnImage = lambda: None) -> Report:
    """Decode images and labels, and count sizes and classes.

    Args:
        data: the split.
        quick: check a few images spread over the split, and all of them only if those contain fewer than two classes.
        on_image: called after each image.
    """
    report = Report(data.layout, data.split, len(data))
    count = len(data)
    chosen = spread(QUICK_SAMPLES, count) if quick else range(count)
    classes = len(data.labels.classes)
    totals = np.zeros(256, np.int64)
    unknown: dict[Any, list[str]] = {}
    transparent: list[str] = []
    turned: list[str] = []
    interpolated: dict[bool, list[str]] = {True: [], False: []}
    look = partial(_look_at_mask, data) if isinstance(data, SegmentationData) else partial(_look_at_picture, data)
    with ThreadPoolExecutor(THREADS) as pool:
        for finding in pool.map(look, chosen):
            report.looked_at += 1
            if finding.digest is not None:
                report.contents.setdefault(finding.digest, []).append(finding.name)
            if finding.size is not None:
                report.sizes[finding.size] += 1
            if finding.counts is not None:
                totals += finding.counts
            if finding.error is not None:
                report.errors.append(finding.error)
            for value in finding.unknown:
                unknown.setdefault(value, []).append(finding.label)
            for value, colour in finding.drawn.items():
                report.drawn.setdefault(value, {}).setdefault(colour, finding.label)
            if finding.transparent:
                transparent.append(finding.label)
            if finding.turned:
                turned.append(finding.name)
            if finding.interpolated is not None:
                interpolated[finding.interpolated].append(finding.label)
            on_image()
    if isinstance(data, ClassificationData):
        totals = np.bincount([label for _, label in data.items], minlength=classes)
    elif unknown:
        report.errors.append(_unknown_values(data, unknown))
    if quick and not report.errors and (totals[:classes] > 0).sum() < 2:
        # The second class may be rare.
        return check_split(data)
    _count_classes(report, data, totals, complete=not quick)
    report.warnings += _differently_drawn(report.drawn)
    if transparent:
        report.warnings.append(
            f"masks with transparent pixels: {len(transparent)}, such as {transparent[0]}: the colours of such pixels count, "
            "although they are invisible"
        )
    if turned:
        report.warnings.append(
            f"images turned by their EXIF orientation, unlike their masks: {len(turned)}, such as {turned[0]}: the orientation "
            "is applied, so the masks must fit the upright image (espnetv2 check-data shows them)"
        )
    if len(interpolated[True]) > len(interpolated[False]):
        report.warnings.append(
            f"masks that seem to be resized with interpolation: {len(interpolated[True])}, such as {interpolated[True][0]}: "
            "along borders they have classes whose values lie between those of both sides: resize masks with nearest neighbour"
        )
    return report


def differing_classes(splits: Sequence[LabelledData]) -> str | None:
    """An error message if the splits do not have the same classes, else None."""
    for one, other in pairwise(splits):
        for there, here in ((one, other), (other, one)):
            lacking = [name for name in there.labels.classes if name not in here.labels.classes]
            if lacking:
                return f"the splits have different classes: {here.split} lacks {', '.join(lacking)} of {there.split}"
    return None


def compare(report: Report, others: Sequence[Report]) -> list[str]:
    """Warnings about a split and others: identical image files, and masks that draw the same value differently."""
    found = []
    for other in others:
        shared = sorted((names[0], digest) for digest, names in report.contents.items() if digest in other.contents)
        if shared and other.split != report.split:
            count = sum(len(report.contents[digest]) for _, digest in shared)
            (name, digest), *_ = shared
            found.append(
                f"images of {report.split} that are in {other.split}, too: {count} of {report.looked_at}, such as {name} and "
                f"{other.contents[digest][0]}: results on images that were trained on say nothing"
            )
        if not _differently_drawn(report.drawn) and not _differently_drawn(other.drawn):
            both = {value: other.drawn.get(value, {}) | colours for value, colours in report.drawn.items()}
            found += _differently_drawn(both)
    return found


def _differently_drawn(drawn: dict[int, dict[Colour, str]]) -> list[str]:
    for value, colours in drawn.items():
        if len(colours) > 1:
            (one, here), (other, there), *_ = colours.items()
            return [
                f"masks draw the value {value} in different colours, {one} in {here} and {other} in {there}: if the colours "
                "and not the values are the classes, list them as palette in dataset.yaml, without rgb_masks: false"
            ]
    return []


def contact_sheet(data: LabelledData, count: int = 12, width: int = 320) -> Image.Image:
    """Images spread over the split with their labels overlaid, and a legend.

    Images that cannot be decoded are skipped. Pixels of unknown classes are lightened, like those without a class.

    Raises:
        UserError: no image can be decoded.
    """
    tiles: list[Image.Image] = []
    for index in spread(count, len(data)):
        with suppress(UserError):
            tiles.append(_tile(data, index, width))
    if not tiles:
        raise UserError(f"no image of the split {data.split} can be decoded")
    columns = min(4, len(tiles))
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, ((index % columns) * width, (index // columns) * height))
    if isinstance(data, ClassificationData):
        return sheet
    return with_legend(sheet, list(zip(data.labels.classes, data.labels.palette, strict=True)))


def _tile(data: LabelledData, index: int, width: int) -> Image.Image:
    if isinstance(data, ClassificationData):
        blob, label = data.items[index]
        picture = at_width(blob.picture(), width)
        return with_legend(picture, [(data.labels.classes[label], distinct_palette(label + 1)[label])])
    image, mask = data.pairs[index]
    picture = at_width(image.picture(), width)
    classes = Image.fromarray(data.codec.inspect(mask.read(), mask.name).classes)
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(data.labels.palette)] = data.labels.palette
    return blend(picture, colours, np.asarray(classes.resize(picture.size, Image.Resampling.NEAREST)))


def _look_at_picture(data: ClassificationData, index: int) -> _Finding:
    blob, _ = data.items[index]
    finding = _Finding(blob.name)
    try:
        _look_at_file(finding, blob)
    except UserError as error:
        finding.error = str(error)
    return finding


def _look_at_mask(data: SegmentationData, index: int) -> _Finding:
    image, mask = data.pairs[index]
    finding = _Finding(image.name, mask.name)
    try:
        size, turn = _look_at_file(finding, image)
        found = data.codec.inspect(mask.read(), mask.name)
        finding.turned = turn != found.turn
        finding.unknown, finding.transparent = frozenset(found.unknown), found.is_transparent()
        palette = found.palette()
        finding.interpolated = None if found.by_colour else is_interpolated(found.classes)
        finding.counts = counts = np.bincount(found.classes.ravel(), minlength=256)
        finding.drawn = {
            value: palette[value]
            for value, number in data.codec.values.items()
            if value < len(palette) and number != IGNORE and counts[number]
        }
        data.check_size(index, size, (found.classes.shape[1], found.classes.shape[0]))
    except UserError as error:
        finding.error = str(error)
    return finding


def _look_at_file(finding: _Finding, image: Blob) -> tuple[tuple[int, int], Image.Transpose | None]:
    content = image.read()
    picture, turn = read_turned_picture(content, image.name)
    finding.size, finding.digest = picture.size, hashlib.sha256(content).digest()
    return picture.size, turn


def _unknown_values(data: SegmentationData, unknown: dict[Any, list[str]]) -> str:
    parts = []
    # Masks with colours and masks with numbers may be mixed.
    for value in sorted(unknown, key=lambda value: (isinstance(value, tuple), value))[:SHOWN_FILES]:
        files = unknown[value]
        parts.append(f"{value} in {len(files)} file{'s' if len(files) > 1 else ''} such as {files[0]}")
    more = f" and {len(unknown) - SHOWN_FILES} more values" if len(unknown) > SHOWN_FILES else ""
    return f"unknown label values: {'; '.join(parts)}{more}: {data.codec.advice(set(unknown))}"


def _count_classes(report: Report, data: LabelledData, totals: npt.NDArray[np.int64], *, complete: bool) -> None:
    names = data.labels.classes
    counts = totals[: len(names)]
    labelled = int(counts.sum())
    report.frequencies = {name: float(n / labelled) if labelled else 0.0 for name, n in zip(names, counts, strict=True)}
    if isinstance(data, SegmentationData) and totals.sum():
        report.unlabelled = 1 - labelled / int(totals.sum())
        if not labelled:
            report.errors.append(f"no pixel in the split {data.split} has a class")
        elif (counts > 0).sum() == 1:
            only = names[int(counts.argmax())]
            hidden = (
                f" ({report.unlabelled:.0%} of the pixels have a value that means no class, such as 255: if it is a class, "
                "list the classes by value, as in  classes: {0: ground, 255: thing})"
            )
            report.errors.append(
                f'every labelled pixel in the split {data.split} is "{only}": at least two classes are needed'
                + (hidden if report.unlabelled else "")
            )
    empty = [name for name, n in zip(names, counts, strict=True) if not n]
    if isinstance(data, SegmentationData) and data.labels in (VOC, CAMVID) and labelled and len(empty) > 0.7 * len(names):
        report.warnings.append(
            f"most of the data set's {len(names)} classes ({names[0]}, {names[1]}, …) do not occur: if yours are others, list "
            "them in dataset.yaml"
        )
    if complete and empty and labelled:
        report.warnings.append(f"classes that never occur in the split {data.split}: {', '.join(empty)}")
    if len(report.sizes) > 1:
        report.warnings.append(f"the images have {len(report.sizes)} different sizes; each is resized to the network's input")
