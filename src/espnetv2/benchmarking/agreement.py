"""Check outputs: a contender that computes something else is not timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from espnetv2.errors import UserError

LARGEST_DIFFERENCE = 1e-3
"""As a share of the largest logit. float32 in another order differs by 1e-6 to 1e-4."""
LEAST_AGREEMENT = 0.999
"""Share of a class map's pixels: if two classes are equally probable, rounding decides."""

Array = npt.NDArray[Any]


def as_array(answer: Any) -> Array:
    """The output of torch or of a runtime as an array of its own; the first one if there are several."""
    if hasattr(answer, "copy_outputs_to_cpu"):
        # ONNX Runtime's binding, whose output is in a GPU's memory.
        answer = answer.copy_outputs_to_cpu()
    first = answer[0] if isinstance(answer, list | tuple) else answer
    return first.detach().cpu().numpy().copy() if isinstance(first, Tensor) else np.array(first)


def check_answer(found: Array, wanted: Array) -> None:
    """Compare logits (floating point), class maps or classes (whole numbers) of equal shape.

    Raises:
        UserError: the output differs, or the wanted one is the same everywhere, so that a comparison would prove nothing.
    """
    # The classes of a few images may well be one.
    if wanted.ndim > 1 and wanted.min() == wanted.max():
        raise UserError("the network's output is the same everywhere, so a comparison would prove nothing")
    if found.shape != wanted.shape:
        raise UserError(f"wrong output: its shape is {found.shape}, not {wanted.shape}")
    if np.issubdtype(wanted.dtype, np.integer):
        agreement = float((found == wanted).mean())
        if agreement < LEAST_AGREEMENT:
            raise UserError(f"wrong output: {agreement:.1%} of the class map agrees with the reference")
        return
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    # Written this way round, NaN fails too.
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(f"wrong output: it differs from the reference by {difference:.1e} of the largest value")
