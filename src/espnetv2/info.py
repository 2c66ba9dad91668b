"""The description of a set of weights: classes, colours, preprocessing, origin and metrics. Every file includes it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from espnetv2.labels import Labels, generic_labels
from espnetv2.models.registry import ModelSpec, Task, model_spec
from espnetv2.preprocessing import Preprocessing

Channel = Annotated[int, Field(ge=0, le=255)]


class ModelInfo(BaseModel):
    """Everything needed to use a trained network, except the parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Name of the model, as in ``espnetv2.list_models()``."""
    tag: str | None = None
    """Tag of the weights in the catalogue, if they are from there."""
    outputs: int
    """Number of the network's outputs. Those beyond ``classes`` are not classes and are ignored."""
    classes: tuple[str, ...]
    palette: tuple[tuple[Channel, Channel, Channel], ...] = ()
    """Colour of each class (segmentation only)."""
    preprocessing: Preprocessing
    dataset: str | None = None
    licence: str | None = None
    source: str | None = None
    """Where the weights come from."""
    metrics: dict[str, float] = {}
    """Metrics on the validation set, in percent."""
    recipe: dict[str, Any] | None = None
    """The recipe that the weights were trained with, if known."""
    version: str | None = None
    """Version of this package that wrote the file."""

    @model_validator(mode="after")
    def _agree(self) -> ModelInfo:
        if not 1 <= len(self.classes) <= self.outputs:
            raise ValueError(f"{len(self.classes)} class names for {self.outputs} outputs")
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise ValueError(f'two classes have the name "{twice}"')
        if self.task == "segmentation" and len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        return self

    @property
    def name(self) -> str:
        """``model.tag``, or the model's name if there is no tag."""
        return f"{self.model}.{self.tag}" if self.tag else self.model

    @property
    def task(self) -> Task:
        """``classification`` or ``segmentation``."""
        return model_spec(self.model).task


def default_preprocessing(spec: ModelSpec) -> Preprocessing:
    """ImageNet normalisation at the input size of the published tables."""
    height, width = spec.reference_size
    if spec.task == "classification":
        return Preprocessing(height=height, width=width, fit="crop", crop_ratio=0.875)
    return Preprocessing(height=height, width=width)


def generic_info(spec: ModelSpec, outputs: int, labels: Labels | None = None) -> ModelInfo:
    """A description for a network of which only the number of outputs is known."""
    known = labels or generic_labels(outputs)
    return ModelInfo(
        model=spec.name,
        outputs=outputs,
        classes=known.classes,
        palette=known.palette,
        preprocessing=default_preprocessing(spec),
    )
