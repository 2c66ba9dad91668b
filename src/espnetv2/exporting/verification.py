"""Check that an exported file gives the network's output, in the file's own runtime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from espnetv2.errors import UserError
from espnetv2.exporting.calibration import Calibration
from espnetv2.images import read_picture
from espnetv2.models.network import Network
from espnetv2.runtimes.description import Description, Precision
from espnetv2.runtimes.runtime import Runtime

PICTURES = 8


@dataclass(frozen=True)
class Tolerance:
    """The deviation that is still accepted."""

    difference: float
    """Largest difference of a logit, as a share of the largest logit."""
    agreement: float
    """Smallest share of pixels, or images, of the same class."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-3, 0.999),
    "fp16": Tolerance(5e-2, 0.99),
    "int8": Tolerance(1.0, 0.9),
}


@dataclass(frozen=True)
class Verification:
    """Result of the comparison.

    Attributes:
        pictures: number of images compared.
        difference: largest difference of a logit, as a share of the largest logit; None if the file outputs classes.
        agreement: share of pixels (segmentation) or images (classification) with the same class.
    """

    pictures: int
    difference: float | None
    agreement: float


def verify(network: Network, runtime: Runtime, calibration: Calibration | None) -> Verification:
    """Compare a file with the network that it was exported from, on images and on noise.

    The images are those given for calibration, or else a drawn street. Noise has no meaningful classes: only its logits are
    compared, and not those of a quantised file, whose calibration has never seen such values.

    Raises:
        UserError: they differ by more than ``TOLERANCES`` allows.
    """
    description = runtime.description
    allowed = TOLERANCES[description.precision]
    pictures = list(calibration.pictures(PICTURES)) if calibration is not None else _sample()
    differences, same, total = [], 0, 0
    for picture in pictures:
        difference, equal, count = _compare(network, runtime, picture)
        differences.append(difference)
        same, total = same + equal, total + count
    if description.precision != "int8":
        differences.append(_compare(network, runtime, _noise(description))[0])
    known = [difference for difference in differences if difference is not None]
    found = Verification(len(pictures), float(np.max(known)) if known else None, same / total)
    # Written this way round, a NaN difference fails.
    if not (found.agreement >= allowed.agreement and (found.difference is None or found.difference <= allowed.difference)):
        shown = "" if found.difference is None else f", logits differ by {found.difference:.1e} of the largest"
        raise UserError(
            f"the {description.format} file does not match the network: {100 * found.agreement:.2f} % of the classes "
            f"agree{shown} (limits: {100 * allowed.agreement:g} % and {allowed.difference:g}), so it was not kept: "
            "choose another precision or format"
        )
    return found


@torch.no_grad()
def _compare(network: Network, runtime: Runtime, picture: Image.Image) -> tuple[float | None, int, int]:
    """Difference of the logits, number of pixels or images of the same class, and number of all."""
    description = runtime.description
    wanted = network(torch.from_numpy(description.info.preprocessing(picture))[None]).numpy()
    found = runtime(description.prepare(picture)[None])
    classes = len(description.info.classes)
    expected = wanted[:, :classes].argmax(1)
    if description.output == "classes":
        return None, int((found == expected).sum()), expected.size
    difference = float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))
    return difference, int((found[:, :classes].argmax(1) == expected).sum()), expected.size


def _sample() -> list[Image.Image]:
    """A drawn street and its mirror image."""
    street = read_picture(resources.files("espnetv2.exporting").joinpath("street.jpg").read_bytes(), "the sample")
    return [street, ImageOps.mirror(street)]


def _noise(description: Description) -> Image.Image:
    preprocessing = description.info.preprocessing
    # Noise finer than the network's input would be averaged to grey.
    height, width = preprocessing.shrink_to or (preprocessing.height, preprocessing.width)
    size = (min(height, preprocessing.height), min(width, preprocessing.width), 3)
    pixels: npt.NDArray[Any] = np.random.default_rng(0).integers(0, 256, size)
    return Image.fromarray(pixels.astype(np.uint8))
