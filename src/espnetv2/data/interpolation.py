"""Recognise masks that were resized with interpolation, which puts wrong classes along borders. Nothing here needs torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from espnetv2.labels import IGNORE

ENOUGH = 20
"""Fewer border pixels than these say nothing."""
SHARE = 0.15
"""At borders of CamVid's masks 0.5 % of the pixels have a class in between, after resizing with interpolation 37 to 62 %."""


def is_interpolated(classes: npt.NDArray[np.uint8]) -> bool | None:
    """Whether class numbers rise and fall gradually at borders, as mixtures of the numbers on both sides do.

    Args:
        classes: class of every pixel (H, W), 255 for none, in the order of the stored values.

    Returns:
        None if there are too few borders between classes whose numbers are not neighbours.
    """
    at_borders, between = np.sum([_gradual(classes), _gradual(classes.T)], axis=0)
    return None if at_borders < ENOUGH else bool(between > SHARE * at_borders)


def _gradual(classes: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Number of pixels whose left and right neighbours are of distant classes, and of those with a class in between."""
    signed = classes.astype(np.int16)
    left, own, right = signed[:, :-2], signed[:, 1:-1], signed[:, 2:]
    known = (left != IGNORE) & (own != IGNORE) & (right != IGNORE)
    at_border = known & (np.abs(left - right) > 1)
    return int(at_border.sum()), int((at_border & ((own - left) * (right - own) > 0)).sum())
