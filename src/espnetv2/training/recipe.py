"""Recipes: everything that determines what a training run computes, typed and validated before anything starts."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from espnetv2 import strict_yaml
from espnetv2.data.layouts.common import read_text
from espnetv2.errors import UserError, nearest, validation_message
from espnetv2.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Positive, Preprocessing, Triple, parse_size

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Range = tuple[Positive, Positive]
PART_OF_A_PICTURE = (0.08, 1.0)


_OTHERWISE_CALLED = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "size": "input_size",
    "imgsz": "input_size",
    "image_size": "input_size",
    "crop_size": "train_size",
    "num_classes": "outputs",
    "num_workers": "workers",
    "warmup": "warmup_epochs",
    "ema": "ema_decay",
}
"""Names that other programs use for a key."""
_ONLY_OF_THE_OTHER: dict[str, tuple[str, ...]] = {
    "classification": (
        *("shrink_to", "mask_scale", "loss.auxiliary", "loss.jaccard", "loss.ohem", "loss.ohem_keep"),
        *("augmentation.scale_of", "augmentation.log_scale", "logit_adjustment"),
    ),
    "segmentation": tuple(f"augmentation.{name}" for name in ("aspect", "trivial_augment", "erase", "mixup", "cutmix")),
}
"""Keys that only the other task uses."""
_COMPUTES_NOTHING = {"workers", "checkpoint_steps"}


class _Part(BaseModel):
    # A split may be named 0, which YAML reads as a number.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Optimizer(_Part):
    """How parameters are updated."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Betas of Adam and AdamW."""
    weight_decay: NotNegative = 4e-5
    decay_all: bool = True
    """Whether biases, normalisation and PReLU decay too, as in the published recipes."""


class Schedule(_Part):
    """How the learning rate changes."""

    name: Literal["constant", "cyclic", "hybrid", "poly", "cosine"] = "cosine"
    per: Literal["step", "epoch"] = "step"
    """Whether ``poly`` and ``cosine`` change every step or once an epoch."""
    warmup_epochs: NotNegative = 0.0
    """Number of epochs at the start over which the rate rises linearly."""
    power: Positive = 0.9
    """Exponent of ``poly``."""
    final: Fraction = 0.0
    """Final rate of ``cosine``, as a fraction of ``lr``."""


class Augmentation(_Part):
    """How training images are augmented."""

    scale: Range = (0.5, 2.0)
    """Segmentation: range of the scaled image's sides relative to the size named by ``scale_of``.

    Classification: range of the cropped area's fraction, by default 0.08 to 1.
    """
    scale_of: Literal["input", "source"] = "input"
    """Segmentation: at scale 1 the image is stretched to the input size (``input``), or keeps its own size (``source``)."""
    log_scale: bool = True
    """Segmentation: scales are drawn log-uniformly."""
    aspect: Range = (0.75, 4 / 3)
    """Classification: range of the crop's aspect ratio."""
    flip: bool = True
    """Half of the images are flipped left to right."""
    colour: Fraction = 0.0
    """Brightness, contrast and saturation vary by a factor of up to 1 ± this."""
    trivial_augment: bool = False
    """Classification: one random operation of torchvision's TrivialAugmentWide."""
    erase: Fraction = 0.0
    """Classification: probability of a random rectangle being erased."""
    mixup: NotNegative = 0.0
    """Classification: alpha of mixup; 0 is none."""
    cutmix: NotNegative = 0.0
    """Classification: alpha of CutMix, used for half of the batches if mixup is on too; 0 is none."""


class Loss(_Part):
    """What is minimised: cross-entropy, its variants, and the terms added to it."""

    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "data"] | tuple[NotNegative, ...] = "none"
    """None, 1/ln(1.10 + share of the class) from the training labels, or one per output."""
    auxiliary: NotNegative = 0.0
    """Weight of the decoder's auxiliary output (only "psp" has one)."""
    jaccard: NotNegative = 0.0
    """Segmentation: weight of 1 - soft intersection over union, which is added to the cross-entropy.

    The validation loss leaves it out.
    """
    ohem: Fraction | None = None
    """Segmentation: online hard example mining keeps pixels whose true class has a probability below this ..."""
    ohem_keep: Fraction = 0.1
    """... and always at least this fraction of the pixels, the hardest."""
    distillation: NotNegative = 1.0
    """Weight of the divergence from the outputs of ``teacher``, if there is one."""


class Recipe(_Part):
    """A training run."""

    task: Literal["classification", "segmentation"]
    dataset: str = "auto"
    """Layout of the data set, or ``auto``."""
    train_split: str = "train"
    val_split: str = "val"
    mask_scale: Positive = 1.0
    """Size of the masks' sides relative to those of their images."""
    epochs: Count
    batch_size: Count
    """Images per optimizer step, over all devices and accumulated batches together."""
    lr: Positive
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1882
    input_size: str
    """Size of the network's input, WIDTHxHEIGHT."""
    train_size: str | None = None
    """Size of training images, if different: for segmentation that of the crop from an image scaled to the input size."""
    shrink_to: str | None = None
    """Segmentation: WIDTHxHEIGHT of the training images if they are coarser than the input. Larger images are shrunk to it
    before anything else, in training and by the finished network."""
    pass_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    """Every epoch goes through the data once per entry, at the training size times that entry."""
    outputs: Count | None = None
    """Minimum number of network outputs, by default one per class; those beyond the classes are never predicted."""
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: Triple = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    teacher: str | None = None
    """Knowledge distillation: a trained network for the same classes, ``model.tag`` or a file, whose outputs are learnt in
    addition to the labels."""
    encoder_lr: NotNegative = 1.0
    """Learning rate of the encoder as a factor of ``lr``; 0 freezes it, its normalisation included."""
    decoder_lr: Positive = 1.0
    """Learning rate of everything else as a factor of ``lr``."""
    freeze_batch_norm: Literal["none", "encoder", "all"] = "none"
    """Whose batch normalisation keeps its statistics and parameters."""
    ema_decay: Decay | None = None
    """Decay of the exponential moving average of the weights; if set, the average is what is validated and kept."""
    logit_adjustment: bool = False
    """Segmentation: at the end, shift the best weights' logit of each class for the best mean IoU on the training images
    (post-hoc logit adjustment), unless that is worse on the validation images."""
    gradient_clip: Positive | None = None
    """Maximum norm of the gradient."""
    accumulate: Count = 1
    """Number of batches per optimizer step."""
    channels_last: bool = True
    compile: bool = False
    """Compile the network with torch.compile."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Data loading processes per device; by default one per core, at most 8."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_steps: Count = 500
    """Steps between checkpoints within an epoch."""

    @field_validator("input_size", "train_size", "shrink_to", mode="before")
    @classmethod
    def _is_a_size(cls, value: object) -> object:
        if value is not None:
            parse_size(str(value))
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_scale_of_its_task(cls, content: object) -> object:
        if not isinstance(content, dict) or content.get("task") != "classification":
            return content
        augmentation = content.get("augmentation", {})
        return (
            {**content, "augmentation": {"scale": PART_OF_A_PICTURE, **augmentation}}
            if isinstance(augmentation, dict)
            else content
        )

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        if self.schedule.name == "hybrid" and self.epochs <= 61:
            raise ValueError(f"the hybrid schedule becomes linear in epoch 61, but epochs is {self.epochs}: set at least 62")
        if self.optimizer.nesterov and not self.optimizer.momentum:
            raise ValueError(
                "optimizer.nesterov needs momentum, but optimizer.momentum is 0: set it, or leave out optimizer.nesterov"
            )
        for key in _ONLY_OF_THE_OTHER[self.task]:
            part, _, name = key.rpartition(".")
            place = getattr(self, part) if part else self
            if (value := getattr(place, name)) != type(place).model_fields[name].default:
                raise ValueError(f"{key} is {value}, which has no effect for {self.task}: leave it out")
        if self.task == "classification" and (most := self.augmentation.scale[1]) > 1:
            raise ValueError(f"augmentation.scale goes up to {most}, but here it is a fraction of the area: set at most 1")
        for name in ("scale", "aspect"):
            low, high = getattr(self.augmentation, name)
            if low > high:
                raise ValueError(f"augmentation.{name} goes from {low} to {high}: give the smaller value first")
        return self

    @property
    def frozen(self) -> str | None:
        """The setting that keeps a part of the network as it is, if there is one."""
        if self.encoder_lr == 0:
            return "encoder_lr=0"
        return None if self.freeze_batch_norm == "none" else f"freeze_batch_norm={self.freeze_batch_norm}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return parse_size(self.input_size)

    @property
    def training_sizes(self) -> list[tuple[int, int]]:
        """Height and width of training images in each pass."""
        height, width = parse_size(self.train_size or self.input_size)
        return [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in self.pass_scales]

    @property
    def metric(self) -> str:
        """The metric by which the best weights are selected."""
        return "miou" if self.task == "segmentation" else "top1"

    def shareable(self) -> Recipe:
        """The recipe as it is stored with the weights: without this machine's folders, which do not concern others."""
        return self if self.teacher is None else self.model_copy(update={"teacher": Path(self.teacher).name})

    def preprocessing(self) -> Preprocessing:
        """How images are prepared for validation and for the finished network."""
        height, width = self.size
        return Preprocessing(
            height=height,
            width=width,
            fit="stretch" if self.task == "segmentation" else "crop",
            crop_ratio=1.0 if self.task == "segmentation" else 0.875,
            channels=self.channels,
            mean=self.mean,
            std=self.std,
            shrink_to=None if self.shrink_to is None else parse_size(self.shrink_to),
        )

    def to_yaml(self) -> str:
        """The resolved recipe with every key."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def list_recipes() -> list[str]:
    """Names of the recipes included in the package."""
    folder = resources.files("espnetv2.training").joinpath("recipes")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A recipe from the package by name, or a YAML file by path, with changes applied.

    Args:
        name: such as ``segmentation``, or a path ending in ``.yaml``.
        changes: ``key=value`` each, with nested keys after a dot, as in ``loss.ohem=0.7``; values are YAML.

    Raises:
        UserError: no such recipe, an unknown key (the message suggests the nearest) or an invalid value.
    """
    return parse_recipe(_read(name), name, changes)


def parse_recipe(text: str, origin: str, changes: Sequence[str] = ()) -> Recipe:
    """Like ``load_recipe``, from the YAML text itself; ``origin`` names it in errors."""
    try:
        content = strict_yaml.load(text)
    except yaml.YAMLError as error:
        raise UserError(f"recipe {origin} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {origin} contains no keys: write lines such as  epochs: 100")
    for change in changes:
        _apply(content, change)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            key = ".".join(str(part) for part in first["loc"])
            raise UserError(f'recipe {origin}: unknown key "{key}": {_nearest_key(key)}') from error
        if first["type"] == "model_type" and (key := ".".join(map(str, first["loc"]))):
            inner = [name for name in _keys(Recipe) if name.startswith(f"{key}.")]
            raise UserError(
                f"recipe {origin}: {key} is {reprlib.repr(first['input'])}, but has keys: set {', '.join(inner)}"
            ) from error
        raise UserError(f"recipe {origin}: {validation_message(error, ())}") from error


def changes(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """The changes from one recipe to another: value before and after by key, nested keys after a dot."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def differences(before: Recipe, after: Recipe) -> list[str]:
    """The changes from one recipe to another that affect what is computed, a line per key."""
    return [f"{key}: {old} -> {new}" for key, (old, new) in changes(before, after).items() if key not in _COMPUTES_NOTHING]


def _read(name: str) -> str:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_text(path)
    known = list_recipes()
    if name not in known:
        raise UserError(f'no recipe "{name}": {nearest(name, known)}')
    return resources.files("espnetv2.training").joinpath("recipes", f"{name}.yaml").read_text("utf-8")


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UserError(f'"{change}" is not of the form key=value')
    *parents, last = key.strip().split(".")
    place = content
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f'"{key}" is not a recipe key: "{parent}" has no nested keys')
        place = inner
    try:
        value = strict_yaml.load(text)
    except yaml.YAMLError as error:
        raise UserError(f'the value "{text}" of {key} is not valid YAML') from error
    if text.lstrip()[:1] in ("'", '"') or value is None:
        place[last] = value
    else:
        # A split may be called 001.
        place[last] = text.strip() if _is_text(key.strip()) else _number(value)


def _is_text(key: str) -> bool:
    """Whether a key at the top of a recipe takes any text."""
    field = Recipe.model_fields.get(key)
    return field is not None and field.annotation in (str, str | None)


def _number(value: object) -> object:
    """YAML reads 1e-3 as text; users mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _nearest_key(unknown: str) -> str:
    """The end of an error message: the key that is probably meant, at any level."""
    part, _, last = unknown.lower().rpartition(".")
    last = _OTHERWISE_CALLED.get(last, last)
    known = _keys(Recipe)
    names = {key.rpartition(".")[2]: key for key in reversed(known) if not part or key.startswith(f"{part}.")}
    # With the part given, only the key itself can be wrong.
    match = [last] if last in names else difflib.get_close_matches(last, names, n=1, cutoff=0.5 if part else 0.75)
    if match:
        return f'did you mean "{names[match[0]]}"?'
    return f"the keys are {', '.join(known)}"


def _keys(part: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a recipe, nested keys after a dot."""
    found = []
    for name, field in part.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _keys(kind, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
