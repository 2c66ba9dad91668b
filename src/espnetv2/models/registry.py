"""All models by name. Importing this loads no network code: that happens when a model is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from espnetv2.errors import UserError, nearest

if TYPE_CHECKING:
    from espnetv2.models.network import Network
    from espnetv2.models.segmentation import DecoderName

Task = Literal["classification", "segmentation"]


class Cost(NamedTuple):
    """The counts of ``models.cost``, stored because counting takes a second per model."""

    parameters: int
    """Trainable ones, with ``default_classes`` outputs."""
    published_parameters: int
    """Those of the authors' network, including some that are never trained."""
    macs: int
    """Multiply-accumulates of the convolutions at ``reference_size``."""


@dataclass(frozen=True)
class ModelSpec:
    """What defines a model: its task, width multiplier (the paper's s) and decoder."""

    task: Task
    scale: float
    decoder: DecoderName | None
    cost: Cost

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
    def output_layer(self) -> str:
        """Name of the layer that outputs the logits, with one row of its weight for each."""
        layers = {None: "classifier", "pyramid": "decoder.pool1.expand", "psp": "decoder.classify1.1"}
        return layers[self.decoder]

    @property
    def reference_size(self) -> tuple[int, int]:
        """Height and width at which the published tables count operations."""
        return (224, 224) if self.task == "classification" else (512, 1024)

    def build(self, num_classes: int | None = None) -> Network:
        """The network with newly initialised parameters.

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
    ModelSpec("classification", 0.5, None, Cost(1_239_722, 1_241_332, 28_375_508)),
    ModelSpec("classification", 1.0, None, Cost(1_666_942, 1_670_072, 85_720_404)),
    ModelSpec("classification", 1.25, None, Cost(1_961_542, 1_965_440, 123_399_444)),
    ModelSpec("classification", 1.5, None, Cost(2_310_190, 2_314_856, 168_604_884)),
    ModelSpec("classification", 1.75, None, Cost(2_869_942, 2_875_376, 222_741_652)),
    ModelSpec("classification", 2.0, None, Cost(3_491_934, 3_498_136, 284_806_228)),
    ModelSpec("segmentation", 0.5, "pyramid", Cost(80_230, 80_342, 597_558_896)),
    ModelSpec("segmentation", 1.0, "pyramid", Cost(233_786, 234_010, 1_086_594_672)),
    ModelSpec("segmentation", 1.25, "pyramid", Cost(342_818, 343_106, 1_410_279_792)),
    ModelSpec("segmentation", 1.5, "pyramid", Cost(468_010, 468_362, 1_714_566_256)),
    ModelSpec("segmentation", 2.0, "pyramid", Cost(788_762, 789_242, 2_699_053_680)),
    ModelSpec("segmentation", 0.5, "psp", Cost(99_306, 99_418, 564_334_592)),
    ModelSpec("segmentation", 1.0, "psp", Cost(340_558, 340_782, 1_688_795_136)),
    ModelSpec("segmentation", 1.25, "psp", Cost(514_750, 515_038, 2_445_274_112)),
    ModelSpec("segmentation", 1.5, "psp", Cost(724_814, 725_166, 3_361_136_640)),
    ModelSpec("segmentation", 2.0, "psp", Cost(1_252_558, 1_253_038, 5_671_012_352)),
)
MODELS = {spec.name: spec for spec in _SPECS}


def list_models() -> list[str]:
    """Names of all models, classification first."""
    return list(MODELS)


def model_spec(name: str) -> ModelSpec:
    """The model called ``name``.

    Raises:
        UserError: there is none; the message suggests the nearest name.
    """
    if name not in MODELS:
        raise UserError(f'no model "{name}": {nearest(name, MODELS)}')
    return MODELS[name]
