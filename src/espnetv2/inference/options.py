"""The arguments of a predictor as a value, which can be given to another process. Nothing here needs torch until it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.info import ModelInfo

if TYPE_CHECKING:
    from espnetv2.inference.predictor import Predictor


@dataclass(frozen=True)
class PredictorOptions:
    """Arguments of ``Predictor``."""

    model: str
    weights: Path | None = None
    device: str = "auto"
    size: tuple[int, int] | None = None
    batch_size: int | None = None
    weights_dir: Path | None = None
    accelerate: bool = True
    backend: str = "auto"
    top_k: int = 5
    threads: int | None = None

    def info(self) -> ModelInfo:
        """Description of the predictor's weights.

        Raises:
            UserError: for the reasons of ``Predictor``.
        """
        return self.make().info

    def make(self) -> Predictor:
        """The predictor.

        Raises:
            UserError: for the reasons of ``Predictor``.
        """
        from espnetv2.inference.predictor import Predictor

        return Predictor(**vars(self))
