"""The weights that are available by name. The entries themselves are data, in ``catalogue.yaml``."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from espnetv2.errors import UserError, nearest
from espnetv2.info import ModelInfo, default_preprocessing
from espnetv2.labels import dataset_labels
from espnetv2.models.registry import model_spec
from espnetv2.preprocessing import Preprocessing, parse_size

DEFAULT_MODEL = "espnetv2_seg_s2_0.cityscapes_256"
HOST = "https://raw.githubusercontent.com"

# The second repository's first networks were trained on BGR input that had been divided by 255 once too often, after
# normalisation; with values from 0 to 1 that is this mean and a standard deviation left at its 8-bit scale.
_PSP_MEAN = (72.3923111 / 255, 82.90893555 / 255, 73.15840149 / 255)
_PSP_STD = (45.3192215, 46.15289307, 44.91483307)
_DATA_WITH_TERMS = {
    "imagenet1k": "ImageNet (research)",
    "cityscapes": "Cityscapes (research)",
    "voc": "PASCAL VOC",
    "camvid": "CamVid (research)",
    "imagenette": "ImageNet (research)",
}


class Source(BaseModel):
    """A folder of a public repository at a fixed commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    commit: str
    folder: str
    preprocessing: Literal["imagenet", "imagenet_crop", "psp"]
    earlier_datasets: tuple[str, ...] = ()


class WeightEntry(BaseModel):
    """One set of weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    tag: str
    dataset: str
    earlier_datasets: tuple[str, ...] = ()
    """Others, on which the weights that training started from, or its teachers, were trained."""
    size: str
    """Input size, WIDTHxHEIGHT."""
    metrics: dict[str, float]
    """In percent, on the validation set."""

    @property
    def name(self) -> str:
        """``model.tag``."""
        return f"{self.model}.{self.tag}"

    @property
    def licence(self) -> str:
        """Licence of the weights, and the training data whose terms apply besides."""
        return f"MIT; terms of {', '.join(_DATA_WITH_TERMS[name] for name in (self.dataset, *self.earlier_datasets))}"

    @property
    def origin(self) -> str:
        """Where they come from, in brief."""
        raise NotImplementedError


class BundledWeights(WeightEntry):
    """Weights trained by this project and included in the package. Their file describes everything else."""

    @property
    def origin(self) -> str:
        """This package."""
        return "bundled"

    @property
    def path(self) -> Path:
        """The file."""
        return bundled_folder() / f"{self.name}.safetensors"


class ReleasedWeights(WeightEntry):
    """Weights that the authors released."""

    source: Source
    file: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    bytes: int | None = None
    sha256: str | None = None
    git_blob_sha1: str

    @property
    def origin(self) -> str:
        """Repository and commit."""
        return f"{self.source.repository}@{self.source.commit[:7]}"

    @property
    def url(self) -> str:
        """Where the file is downloaded from: a path at a fixed commit."""
        return f"{HOST}/{self.source.repository}/{self.source.commit}/{self.source.folder}/{self.file}"

    def info(self) -> ModelInfo:
        """Classes, colours and preprocessing of these weights."""
        labels = dataset_labels(self.dataset)
        return ModelInfo(
            model=self.model,
            tag=self.tag,
            # The authors' Cityscapes networks have a 20th output, "background", which is not a class.
            outputs=20 if self.dataset == "cityscapes" else len(labels.classes),
            classes=labels.classes,
            palette=labels.palette,
            preprocessing=self.preprocessing(),
            dataset=self.dataset,
            licence=self.licence,
            source=f"{self.source.repository} at {self.source.commit[:12]}, {self.source.folder}/{self.file}",
            metrics=self.metrics,
        )

    def preprocessing(self) -> Preprocessing:
        """How images are prepared for these weights."""
        height, width = parse_size(self.size)
        if self.source.preprocessing == "psp":
            return Preprocessing(height=height, width=width, channels="BGR", mean=_PSP_MEAN, std=_PSP_STD)
        return default_preprocessing(model_spec(self.model)).resized(height, width)


@cache
def catalogue() -> dict[str, WeightEntry]:
    """Every entry by its name ``model.tag``, a model's default first."""
    data = yaml.safe_load(resources.files("espnetv2.weights").joinpath("catalogue.yaml").read_text("utf-8"))
    sources = {key: Source(**source) for key, source in data["sources"].items()}
    entries: list[WeightEntry] = []
    for row in data["released"]:
        source = sources[row["source"]]
        entries.append(ReleasedWeights(**{**row, "source": source, "earlier_datasets": source.earlier_datasets}))
    entries += [BundledWeights(**row) for row in data["bundled"]]
    return {entry.name: entry for entry in entries}


def released() -> list[ReleasedWeights]:
    """The entries that the authors released."""
    return [entry for entry in catalogue().values() if isinstance(entry, ReleasedWeights)]


def bundled_folder() -> Path:
    """The folder of the weights included in the package."""
    return Path(str(resources.files("espnetv2.weights").joinpath("bundled")))


def list_weights(model: str | None = None) -> list[str]:
    """Names ``model.tag`` of all weights, or of one model's, its default first.

    Raises:
        UserError: there is no such model.
    """
    if model is not None:
        model_spec(model)
    return [name for name, entry in catalogue().items() if model in (None, entry.model)]


def find_weights(name: str) -> WeightEntry:
    """The entry for ``model.tag``, or the default one for just ``model``.

    Raises:
        UserError: there is no such model, no such tag, or the model has no weights.
    """
    model, _, tag = name.partition(".")
    known = list_weights(model)
    if not known:
        raise UserError(f'there are no released weights for "{model}": give a checkpoint file of your own as its weights')
    if not tag:
        return catalogue()[known[0]]
    if name not in known:
        tags = [entry.partition(".")[2] for entry in known]
        raise UserError(f'no weights "{tag}" for {model}: {nearest(tag, tags)}')
    return catalogue()[name]
