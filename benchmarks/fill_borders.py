r"""Label the borders between objects, which small Cityscapes masks leave out.

    python benchmarks/fill_borders.py --data cityscapes256 --out filled
    espnetv2 train --recipe cityscapes_256 --data filled ...

In masks made from small pictures of the labels, the pixels along a border have mixed colours and therefore no class. A
network trained on the rest is never told where a border is, but full masks count it. Here a strip of at most four such pixels
gets the classes of its two sides. Wider areas without a class stay as they are, and so do strips without a second class within
four pixels: a thin object has been lost there. Upright ones in front of a building, a tree or the sky are poles.

Some mixtures are the colour of a third class: that of a car and black is a truck's, that of the sky and a building a wall's.
Large things narrower than three pixels are therefore taken for a border first, and so are poles along a border whose mixture
has a pole's colour.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from rich.progress import track
from street_data import UNLABELLED, counterpart, data_and_new_folder, opened

Mask = npt.NDArray[np.uint8]

REACH = 2
"""Pixels that each side of a strip grows."""

LARGE = ("road", "sidewalk", "building", "wall", "fence", "vegetation", "terrain", "sky", "truck", "bus", "train")
"""Classes whose strips of one or two pixels are mixed colours. A distant car can be as narrow."""

POLE_COLOURED = (("road", "terrain"), ("wall", "fence"))
"""Pairs of classes whose mixture has a pole's colour."""

BEHIND_POLES = ("building", "vegetation", "sky", "sidewalk", "terrain", "wall", "fence")
"""Classes in front of which an upright strip without a class was a pole."""

POLE_HEIGHT = 8
"""Pixels that such a strip has at least."""


def main() -> None:
    """Read the arguments and write a folder of the same layout."""
    root, out = data_and_new_folder(__doc__)
    for split in ("train", "val"):
        data = opened("cityscapes", root, split)
        index_of = data.labels.classes.index
        pole, behind = index_of("pole"), [index_of(name) for name in BEHIND_POLES]
        large = [index_of(name) for name in LARGE]
        pole_coloured = [(index_of(one), index_of(other)) for one, other in POLE_COLOURED]
        for index in track(range(len(data)), split):
            picture, mask = (counterpart(blob.path, root, out) for blob in data.pairs[index])
            shutil.copy(data.pairs[index][0].path, picture)
            # The classes are trainIds, whichever the source has.
            filled = fill(without_mixtures(data.mask(index), large, pole, pole_coloured))
            filled[lost_poles(filled, behind)] = pole
            Image.fromarray(filled).save(mask.with_name(mask.name.replace("_labelIds", "_labelTrainIds")))


def without_mixtures(mask: Mask, large: Sequence[int], pole: int, pole_coloured: Sequence[tuple[int, int]]) -> Mask:
    """The mask without strips of ``large`` classes, and without poles that have a pair of ``pole_coloured`` next to them."""
    mask = mask.copy()
    for index in large:
        pixels = mask == index
        mask[pixels & ~_around(~_around(~pixels, 1), 1 + REACH)] = UNLABELLED
    for one, other in pole_coloured:
        mask[(mask == pole) & _around(mask == one, 1 + REACH) & _around(mask == other, 1 + REACH)] = UNLABELLED
    return mask


def fill(mask: Mask) -> Mask:
    """The mask with classes on narrow strips that have different ones nearby."""
    if (mask == UNLABELLED).all():
        return mask
    grown = mask
    for _ in range(REACH):
        grown = _grow(grown)
    wide = _around(grown == UNLABELLED, REACH)
    classes = np.sum([_around(mask == index, 2 * REACH) for index in _classes(mask)], axis=0)
    return np.where((mask == UNLABELLED) & (classes > 1) & ~wide, grown, mask)


def lost_poles(mask: Mask, behind: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Pixels of upright strips of at most four pixels without a class, which have the same one of ``behind`` on both sides.

    Of strips of three and four pixels the outer ones are left out: they are mixed colours, at most half a pole.
    """
    padded = np.pad(mask, POLE_HEIGHT, constant_values=UNLABELLED)
    found = np.zeros(padded.shape, bool)
    for width in range(1, 2 * REACH + 1):
        left, right = padded[:, : -width - 1], padded[:, width + 1 :]
        between = sliding_window_view(padded == UNLABELLED, width, axis=1)[:, 1:-1].all(-1)
        strips = between & (left == right) & np.isin(left, behind)
        outer = int(width > 2)
        for column in range(1 + outer, 1 + width - outer):
            found[:, column : column + strips.shape[1]] |= strips
    # It may lean, so that its pixels are not exactly above one another.
    leaning = sliding_window_view(np.pad(found, ((0, 0), (1, 1))), 3, axis=1).any(-1)
    upright = sliding_window_view(leaning, POLE_HEIGHT, axis=0).all(-1)
    tall = sliding_window_view(np.pad(upright, ((POLE_HEIGHT - 1,) * 2, (0, 0))), POLE_HEIGHT, axis=0).any(-1)
    return (found & tall)[POLE_HEIGHT:-POLE_HEIGHT, POLE_HEIGHT:-POLE_HEIGHT]


def _classes(mask: Mask) -> Mask:
    """Those that occur, the rarest first."""
    values, counts = np.unique(mask[mask != UNLABELLED], return_counts=True)
    return values[np.argsort(counts)]


def _grow(mask: Mask) -> Mask:
    """Give pixels without a class the one that most of their neighbours have, of equally frequent ones the rarest."""
    classes = _classes(mask)
    votes = np.array([_neighbours(mask == index) for index in classes])
    return np.where((mask == UNLABELLED) & (votes.max(0) > 0), classes[votes.argmax(0)], mask)


def _neighbours(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """How many neighbours are set; one with a common side counts twice."""
    padded = np.pad(pixels.astype(np.uint8), 1)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    near = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    # The pixel itself has been counted four times, the diagonal ones once, the others twice.
    votes: npt.NDArray[np.uint8] = near - 4 * padded[1:-1, 1:-1]
    return votes


def _around(pixels: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Whether any pixel of the square of this reach is set."""
    padded, size = np.pad(pixels, reach), 2 * reach + 1
    rows = np.asarray(sliding_window_view(padded, size, axis=0).any(-1))
    return np.asarray(sliding_window_view(rows, size, axis=1).any(-1))


if __name__ == "__main__":
    main()
