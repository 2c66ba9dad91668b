"""Whether an answer is right: a contender that computes something else is not timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from espnetv2.errors import UserError

LARGEST_DIFFERENCE = 1e-3
"""Of the largest logit. float32 in another order differs by 1e-6 to 1e-4."""
LEAST_AGREEMENT = 0.999
"""Share of a class map's pixels: where two classes are equally probable, rounding decides."""

Array = npt.NDArray[Any]


def as_array(answer: Any) -> Array:
    """An answer of torch or of a runtime; of several outputs the first."""
    first = answer[0] if isinstance(answer, list | tuple) else answer
    return first.detach().cpu().numpy() if isinstance(first, Tensor) else np.asarray(first)


def check_answer(found: Array, wanted: Array) -> None:
    """Compare logits (floating point) or class maps (whole numbers) of equal shape.

    Raises:
        UserError: the answer is another, or the wanted one is the same everywhere, so that it would prove nothing.
    """
    if wanted.min() == wanted.max():
        raise UserError("the network answers the same everywhere, which would prove nothing of a backend")
    if found.shape != wanted.shape:
        raise UserError(f"wrong answer: its shape is {found.shape}, not {wanted.shape}")
    if np.issubdtype(wanted.dtype, np.integer):
        agreement = float((found == wanted).mean())
        if agreement < LEAST_AGREEMENT:
            raise UserError(f"wrong answer: {agreement:.1%} of the class map agree with the reference")
        return
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    # Written so that NaN is refused as well.
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(f"wrong answer: it differs from the reference by {difference:.1e} of the largest value")
