"""Every model by name. Importing this loads no network code: that happens when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from espnetv2.errors import UserError, nearest

if TYPE_CHECKING:
    from espnetv2.models.network import Network
    from espnetv2.models.segmentation import DecoderName

Task = Literal["classification", "segmentation"]

CLASSIFICATION_SCALES = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0)
SEGMENTATION_SCALES = (0.5, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class ModelSpec:
    """What tells one model from another: its task, width multiplier (the paper's s) and decoder."""

    task: Task
    scale: float
    decoder: DecoderName | None = None

    @property
    def name(self) -> str:
        """``espnetv2_s1_0``, ``espnetv2_seg_s1_0`` or ``espnetv2_seg_psp_s1_0``."""
        kind = "" if self.decoder is None else "seg_" if self.decoder == "pyramid" else f"seg_{self.decoder}_"
        return f"espnetv2_{kind}s{str(self.scale).replace('.', '_')}"

    @property
    def default_classes(self) -> int:
        """Outputs of the published network: 1000 for ImageNet, 20 for Cityscapes with its background."""
        return 1000 if self.task == "classification" else 20

    @property
    def reference_size(self) -> tuple[int, int]:
        """Height and width at which the published tables count operations."""
        return (224, 224) if self.task == "classification" else (512, 1024)

    def build(self, num_classes: int | None = None) -> Network:
        """The network with fresh parameters.

        Raises:
            UserError: ``num_classes`` is below 1.
        """
        classes = self.default_classes if num_classes is None else num_classes
        if self.decoder is None:
            from espnetv2.models.classification import ClassificationModel

            return ClassificationModel(self.scale, classes)
        from espnetv2.models.segmentation import SegmentationModel

        return SegmentationModel(self.scale, classes, self.decoder)


_SPECS = (
    *(ModelSpec("classification", scale) for scale in CLASSIFICATION_SCALES),
    *(ModelSpec("segmentation", scale, "pyramid") for scale in SEGMENTATION_SCALES),
    *(ModelSpec("segmentation", scale, "psp") for scale in SEGMENTATION_SCALES),
)
MODELS = {spec.name: spec for spec in _SPECS}


def list_models() -> list[str]:
    """Names of all models, classification first."""
    return list(MODELS)


def model_spec(name: str) -> ModelSpec:
    """The model called ``name``.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in MODELS:
        raise UserError(f'no model "{name}": {nearest(name, MODELS)}')
    return MODELS[name]
