"""``dataset.yaml``: class names and colours of a custom data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from espnetv2 import strict_yaml
from espnetv2.data.layouts.common import read_text
from espnetv2.data.masks import MAX_CLASSES, MaskCodec
from espnetv2.errors import UserError, validation_message
from espnetv2.info import Channel
from espnetv2.labels import IGNORE, Colour, Labels, distinct_palette

FILE = "dataset.yaml"
_OTHERWISE_CALLED = {"names": "classes", "labels": "classes", "colors": "palette", "colours": "palette"}
Value = Annotated[int, Field(ge=0, le=65_535)]


class Description(BaseModel):
    """The content of ``dataset.yaml``."""

    model_config = ConfigDict(extra="forbid")

    classes: list[str] | dict[Value, str]
    """Class names, in the order of the mask values from 0, or by mask value."""
    palette: list[tuple[Channel, Channel, Channel]] | None = None
    """A colour per class, in their order, for RGB masks and for drawing."""
    rgb_masks: bool | None = None
    """Whether masks are RGB images in the palette's colours; by default they are if there is a palette."""
    ignore_index: Value = IGNORE
    """Mask value of pixels without a class."""
    ignore_colours: list[tuple[Channel, Channel, Channel]] = []
    """Colours of pixels without a class, in RGB masks."""

    @field_validator("palette", "ignore_colours", mode="before")
    @classmethod
    def _hexadecimal(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [_colour(item) if isinstance(item, str) else item for item in value]

    def labels(self) -> Labels:
        """Class names, and their colours: the given ones, or generated distinct ones."""
        names = tuple(self.classes.values() if isinstance(self.classes, dict) else self.classes)
        return Labels(names, tuple(self.palette) if self.palette else distinct_palette(len(names)))

    def class_values(self) -> list[int]:
        """The mask value of each class."""
        return list(self.classes) if isinstance(self.classes, dict) else list(range(len(self.classes)))

    def codec(self, file: str = FILE) -> MaskCodec:
        """How masks of this data set are read; messages name the file that the description is from."""
        by_value = {value: index for index, value in enumerate(self.class_values())}
        colours: dict[Colour, int] | None = None
        if self.palette and self.rgb_masks is not False:
            colours = dict.fromkeys(self.ignore_colours, IGNORE) | {colour: i for i, colour in enumerate(self.palette)}
        return MaskCodec({self.ignore_index: IGNORE} | by_value, colours, hint=f"check the classes in {file}")


def read_description(root: Path) -> Description:
    """Read ``dataset.yaml``.

    Raises:
        UserError: it is missing, not valid YAML, has an unknown key or one twice, or contradicts itself.
    """
    path = root / FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: create it with the class names, such as  classes: [background, road, car]")
    try:
        content = strict_yaml.load(read_text(path))
        if isinstance(content, dict):
            for key in content.keys() & _OTHERWISE_CALLED.keys():
                raise UserError(f'{path}: unknown key "{key}": it is called {_OTHERWISE_CALLED[key]} here')
        description = Description.model_validate(content)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {validation_message(error, Description.model_fields)}") from error
    check_description(path, description)
    return description


def own_classes(root: Path) -> tuple[Labels, MaskCodec]:
    """The classes of ``dataset.yaml`` and how masks are read.

    Raises:
        UserError: for the reasons of ``read_description``.
    """
    description = read_description(root)
    return description.labels(), description.codec()


def check_description(path: Path, description: Description) -> None:
    """Check that a description makes sense as a whole.

    Raises:
        UserError: it does not; the message begins with ``path``.
    """
    names = description.labels().classes
    count = len(names)
    if not 2 <= count <= MAX_CLASSES:
        raise UserError(f"{path} names {count} classes: two to {MAX_CLASSES} are needed, including the background")
    if len(set(names)) != count:
        raise UserError(f"{path} names a class twice: give each class its own name")
    if not all(name.strip() for name in names):
        raise UserError(f"{path} has a class without a name: give each class a name")
    if description.rgb_masks and not description.palette:
        raise UserError(f"{path} has rgb_masks without a palette: list the colour of each class as palette, or leave it out")
    if description.palette is not None and len(description.palette) != count:
        raise UserError(f"{path} has {len(description.palette)} colours for {count} classes: give one per class")
    if description.palette is not None and len(set(description.palette)) != count:
        raise UserError(f"{path} gives two classes the same colour: give each class its own")
    _check_ignored(path, description)


def _check_ignored(path: Path, description: Description) -> None:
    """Check that no class is both ignored and learnt."""
    names = dict(zip(description.class_values(), description.labels().classes, strict=True))
    ignored = names.pop(description.ignore_index, None)
    # The default of 255 yields to a class: black and white masks have one with that value.
    if ignored is not None and "ignore_index" in description.model_fields_set:
        raise UserError(
            f'{path}: {description.ignore_index} is both the mask value of "{ignored}" and ignore_index: list the classes '
            f"by value, without it:  classes: {yaml.safe_dump(names, default_flow_style=True, sort_keys=False).strip()}"
        )
    for colour in description.ignore_colours:
        if colour in (description.palette or ()):
            raise UserError(f"{path}: {list(colour)} is both the colour of a class and in ignore_colours: choose one")


def _colour(text: str) -> tuple[int, int, int]:
    digits = text.removeprefix("#")
    try:
        value = int(digits, 16) if len(digits) == 6 else -1
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(f'"{text}" is not a colour: write [255, 0, 0] or "#ff0000"')
    return value >> 16, value >> 8 & 255, value & 255
