"""The description inside an exported file, the same in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from espnetv2.errors import UserError
from espnetv2.info import ModelInfo

KEY = "espnetv2"
LAYOUT = 1
SMALLEST_DYNAMIC = 48
LARGEST_SIDE = 8192
"""Limits of the input's sides, in pixels; the smallest is for files of any size, whose stages support no smaller one."""

Input = Literal["float32", "uint8"]
Output = Literal["logits", "classes"]
Precision = Literal["fp32", "fp16", "int8"]


class Description(BaseModel):
    """Everything needed to use an exported file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: int = LAYOUT
    """Version of this description."""
    info: ModelInfo
    """Describes the network and its weights; the preprocessing is that of the file."""
    format: str
    dynamic: bool = False
    """Whether the file accepts any size and batch size; otherwise one image of the preprocessing's size."""
    input: Input = "float32"
    """``float32``: preprocessed (N, 3, H, W). ``uint8``: pixels (N, H, W, 3) RGB at the input size."""
    output: Output = "logits"
    """``logits``: (N, outputs, H, W) or (N, outputs). ``classes``: (N, H, W) or (N)."""
    precision: Precision = "fp32"
    version: str
    """Version of this package that wrote the file."""

    def prepare(self, picture: Image.Image) -> npt.NDArray[Any]:
        """An image as input for the file: (3, H, W) float32, or (H, W, 3) uint8 if the file normalises by itself."""
        preprocessing = self.info.preprocessing
        if self.input == "uint8":
            return np.asarray(preprocessing.fit_picture(picture))
        return preprocessing(picture)


def read_description(text: str | None, path: Path) -> Description:
    """Parse the description of a file.

    Raises:
        UserError: it is missing, damaged, or of another version.
    """
    if not text:
        raise UserError(f"{path} does not contain a description, as files exported by espnetv2 do: export it again")
    try:
        found = Description.model_validate_json(text)
    except ValidationError as error:
        if f'"layout":{LAYOUT}' not in text.replace(" ", ""):
            raise UserError(f"{path} was exported by another version of espnetv2: export it again with this one") from error
        raise UserError(f"the description inside {path} is damaged: export it again") from error
    if found.layout != LAYOUT:
        raise UserError(
            f"{path} was exported by version {found.version} of espnetv2, which describes files differently: "
            "export it again with this one"
        )
    return found
