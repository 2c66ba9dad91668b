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
"""A class map has pixels enough for a comparison; of a classification, all images for calibration are used."""


@dataclass(frozen=True)
class Tolerance:
    """The deviation that is still accepted."""

    difference: float
    """Largest difference of a logit, as a share of the largest logit."""
    agreement: float
    """Smallest share of pixels, or images, of the same class."""
    tie: float
    """Distance between the logits of two classes, as a share of the largest logit, at which either is right for an image."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-3, 0.999, 1e-3),
    "fp16": Tolerance(5e-2, 0.99, 5e-2),
    "int8": Tolerance(1.0, 0.9, 0.2),
}


@dataclass(frozen=True)
class _Comparison:
    """Of one image: ``total`` pixels (segmentation) or 1 (classification)."""

    difference: float | None
    same: int
    acceptable: int
    total: int


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

    The images are those given for calibration (of a segmentation at most eight of them), or else a drawn street. Noise has no
    meaningful classes: only its logits are compared, and not those of a quantised file, whose calibration has never seen such
    values.

    Raises:
        UserError: they differ by more than ``TOLERANCES`` allows.
    """
    description = runtime.description
    allowed = TOLERANCES[description.precision]
    if calibration is None:
        pictures = iter(_sample())
    else:
        pictures = calibration.pictures(PICTURES) if description.info.task == "segmentation" else calibration.pictures()
    compared = [_compare(network, runtime, picture, allowed.tie) for picture in pictures]
    differences = [comparison.difference for comparison in compared]
    if description.precision != "int8" and description.output != "classes":
        differences.append(_compare(network, runtime, _noise(description), allowed.tie).difference)
    known = [difference for difference in differences if difference is not None]
    total = sum(comparison.total for comparison in compared)
    agreement = sum(comparison.same for comparison in compared) / total
    acceptable = sum(comparison.acceptable for comparison in compared) / total
    found = Verification(len(compared), float(np.max(known)) if known else None, agreement)
    # Written this way round, a NaN difference fails.
    if not (acceptable >= allowed.agreement and (found.difference is None or found.difference <= allowed.difference)):
        shown = "" if found.difference is None else f", logits differ by {found.difference:.1e} of the largest"
        raise UserError(
            f"the {description.format} file does not match the network: {100 * acceptable:.2f} % of the classes "
            f"agree{shown} (limits: {100 * allowed.agreement:g} % and {allowed.difference:g}), so it was not kept: "
            "choose another precision or format"
        )
    return found


@torch.no_grad()
def _compare(network: Network, runtime: Runtime, picture: Image.Image, tie: float) -> _Comparison:
    description = runtime.description
    wanted = network(torch.from_numpy(description.info.preprocessing(picture))[None]).numpy()
    found = runtime(description.prepare(picture)[None])
    logits = wanted[:, : len(description.info.classes)]
    largest = max(float(np.abs(wanted).max()), 1e-12)
    difference: float | None = None
    chosen = found
    if description.output == "logits":
        difference = float(np.abs(found - wanted).max()) / largest
        chosen = found[:, : logits.shape[1]].argmax(1)
    same = int((chosen == logits.argmax(1)).sum())
    if description.info.task == "segmentation":
        return _Comparison(difference, same, same, chosen.size)
    is_close = 0 <= chosen[0] < logits.shape[1] and logits[0, chosen[0]] >= logits.max() - tie * largest
    return _Comparison(difference, same, int(is_close), 1)


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
