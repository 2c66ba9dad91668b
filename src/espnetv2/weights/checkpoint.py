"""Read checkpoint files, this project's or the authors', without executing anything in them; write this project's."""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from espnetv2.errors import UserError
from espnetv2.files import atomic_path
from espnetv2.info import ModelInfo, default_preprocessing, generic_info
from espnetv2.labels import CITYSCAPES, VOC, imagenet_labels
from espnetv2.models.encoder import widths
from espnetv2.models.registry import MODELS, ModelSpec
from espnetv2.runtimes.runtime import is_exported
from espnetv2.weights.catalogue import released
from espnetv2.weights.download import matching_entry
from espnetv2.weights.keys import Layout, StateDict, convert_official, is_official, own_layout

METADATA_KEY = "espnetv2"
_FIRST = "encoder.level1.conv.weight"
BEST = "best.safetensors"
_DEEPEST = 3
_WIDTHS = (_FIRST, "encoder.level2.down.act.weight")
# A few official training files contain NumPy scalars (the best score), which torch does not accept by default.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    # Its home before and since NumPy 2.
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Trained parameters under this project's names, with their description."""

    path: Path
    spec: ModelSpec
    info: ModelInfo
    state_dict: StateDict


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint: ``.safetensors``, a PyTorch file, or a resumable training checkpoint; this project's or official.

    The kind of file is detected from its content alone. Tensors are loaded to the CPU, floating-point ones as float32.

    Raises:
        UserError: there is no such file, it is damaged, would execute code, or is not a checkpoint of this network.
    """
    path = Path(path)
    if (path / BEST).is_file():
        raise UserError(f'"{path}" is the folder of a training run: give {path / BEST}')
    if not path.is_file():
        raise UserError(f'no checkpoint file "{path}": check the path')
    if is_exported(path):
        raise UserError(f"{path} is an exported file: give the checkpoint that it was exported from")
    tensors, metadata = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    tensors = _unwrapped(path, tensors)
    try:
        official = is_official(tensors)
        state_dict = convert_official(tensors) if official else dict(tensors)
        layout = own_layout(state_dict)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    spec = _recognise(str(path), layout, state_dict)
    state_dict = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state_dict.items()}
    info = _info(path, metadata, spec, _outputs(spec, state_dict), official=official)
    return Checkpoint(path, spec, info, state_dict)


def save_checkpoint(state_dict: Mapping[str, Tensor], info: ModelInfo | None, path: str | Path) -> None:
    """Write a ``.safetensors`` file that includes ``info``, completely or not at all.

    Args:
        state_dict: of the network, or of the ``DistributedDataParallel`` or compiled module around it.
        info: description of the network, its attribute ``info``.
        path: of the file.

    Raises:
        UserError: there is no description, it is of another network, there are parameters of other modules, or there is no
            such folder.
    """
    if info is None:
        raise UserError("the network has no description: create it for its classes, create_model(..., classes=[...])")
    whole = state_dict
    state_dict = _unwrapped(Path(path), dict(whole))
    if len(state_dict) < len(whole):
        raise UserError(f"{len(whole) - len(state_dict)} parameters are not the network's: save the network's own state_dict()")
    check_described("the state dict", state_dict, info)
    if not Path(path).parent.is_dir():
        raise UserError(f'no folder "{Path(path).parent}": create it first')
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in state_dict.items()}
    with atomic_path(Path(path), durable=True) as partial:
        # save_file would create a file that only its owner can read.
        partial.write_bytes(save(tensors, metadata={METADATA_KEY: info.model_dump_json()}))


def check_described(what: str, state_dict: Mapping[str, Tensor], info: ModelInfo) -> None:
    """Check that a description fits these parameters: same model, same number of outputs.

    Raises:
        UserError: it is not; the message begins with ``what``.
    """
    try:
        spec = _recognise(what, own_layout(state_dict), state_dict)
    except UserError as error:
        raise UserError(f"{error}, so its layers have been modified: give create_model other classes instead") from error
    outputs = _outputs(spec, state_dict)
    if info.model != spec.name or info.outputs != outputs:
        raise UserError(
            f"{what} belongs to {spec.name} with {outputs} outputs, but is described as {info.model} with {info.outputs}: "
            "give the classes when you create the model, create_model(..., classes=[...])"
        )


def _is_safetensors(path: Path) -> bool:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    # Eight bytes with the header's length, then the header, a JSON object.
    return start[8:] == b"{" and 8 + int.from_bytes(start[:8], "little") <= size


def _read_safetensors(path: Path) -> tuple[StateDict, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): get the file again") from error


def _read_torch(path: Path) -> tuple[StateDict, dict[str, str]]:
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A stream hides the file's name, from whose suffix torch would guess the content.
            with path.open("rb") as stream:
                content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error))) from error
    except Exception as error:
        # A damaged file can break the reader anywhere.
        raise UserError(f"{path} is damaged or not a checkpoint ({type(error).__name__}): get the file again") from error
    described = isinstance(content, dict) and isinstance(content.get(METADATA_KEY), str)
    return _unwrap(path, content), {METADATA_KEY: content[METADATA_KEY]} if described else {}


def _refusal(path: Path, reason: str) -> str:
    # To a pickle, a text or picture that begins with "c" asks for code, too.
    if _is_pickle(path):
        if "Unsupported global" in reason or "Unsupported class" in reason or "GLOBAL" in reason:
            return (
                f"{path} was refused: it asks to run code, which no checkpoint needs: ask its author for a safetensors file, "
                "or save model.state_dict() instead of model"
            )
        if "Unsupported operand" in reason:
            return f"{path} was refused: it needs a reader that can run code: save it again, as torch.save does by default"
    return f"{path} is damaged or not a checkpoint: get the file again"


def _is_pickle(path: Path) -> bool:
    """Whether a file may be a pickle, alone or in an archive: in their older forms these have no beginning, but an end."""
    content = path.read_bytes()
    return content.startswith((b"PK", b"\x80")) or content.endswith(b".")


def _unwrap(path: Path, content: object) -> StateDict:
    """The tensors of a plain state dict, or of the one inside a training checkpoint."""
    # Counted, since a dict in a file may contain itself.
    for _ in range(_DEEPEST):
        if not isinstance(content, dict) or _holds_network(content):
            break
        parts = {key: value for key, value in content.items() if isinstance(value, dict)}
        # Under whatever key: there are many customs.
        networks = [key for key, value in parts.items() if _holds_network(value)]
        usual = [key for key in ("state_dict", "model") if key in (networks or parts)]
        if len(networks) > 1 and not usual:
            raise UserError(f"{path} contains several networks ({', '.join(map(str, networks))}): save the state_dict() of one")
        chosen = next(iter(usual or networks), None)
        if chosen is None:
            break
        content = parts[chosen]
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__}, not parameters: save the model's state_dict()")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if not _is_stored(value):
            raise UserError(f'{path} was refused: its parameter "{name}" has fewer stored values than its shape')
    return tensors


def _holds_network(content: dict[Any, Any]) -> bool:
    names = {name: None for name in content if isinstance(name, str)}
    return is_official(names) or any(name.endswith(_FIRST) for name in names)


def _unwrapped(path: Path, tensors: StateDict) -> StateDict:
    """Strip the prefix that a training run, ``DistributedDataParallel``, ``torch.compile`` or a wrapper adds to names."""
    prefixes = [name.removesuffix(_FIRST) for name in tensors if name.endswith(f".{_FIRST}")]
    if not prefixes or _FIRST in tensors:
        return tensors
    # A training run stores the network as "model", and the one that it validates, if different, as "average".
    known = [prefix for prefix in ("average.", "model.") if prefix in prefixes]
    if not known and len(prefixes) > 1:
        raise UserError(f"{path} contains several networks ({', '.join(prefixes)}): save the state_dict() of one")
    prefix = (known or prefixes)[0]
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _is_stored(tensor: Tensor) -> bool:
    """Whether all values of a tensor are stored: a single one may be expanded to any size, and a sparse one has few."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _recognise(what: str, layout: Layout, state_dict: Mapping[str, Tensor]) -> ModelSpec:
    """The model that has these widths."""
    decoder = None if layout == "classification" else layout
    specs = [spec for spec in MODELS.values() if spec.decoder == decoder]
    needed = (*_WIDTHS, f"{specs[0].output_layer}.weight")
    for name in needed:
        if name not in state_dict or 0 in (state_dict[name].ndim, state_dict[name].numel()):
            raise UserError(f'{what} is incomplete: it has no parameter "{name}"')
    found = tuple(state_dict[name].shape[0] for name in _WIDTHS)
    for spec in specs:
        shape = widths(spec.scale)
        if found == (shape.level1, shape.level2):
            return spec
    raise UserError(f"{what} does not have a known width: its second level has {found[1]} channels")


def _outputs(spec: ModelSpec, state_dict: Mapping[str, Tensor]) -> int:
    return state_dict[f"{spec.output_layer}.weight"].shape[0]


def _info(path: Path, metadata: dict[str, str], spec: ModelSpec, outputs: int, *, official: bool) -> ModelInfo:
    if METADATA_KEY in metadata:
        return _own_info(path, metadata[METADATA_KEY], spec, outputs)
    if not official:
        log.warning(
            "%s does not describe its classes and preprocessing, so the defaults are used: "
            "espnetv2.weights.save_checkpoint stores them with the weights",
            path,
        )
        return generic_info(spec, outputs)
    same_model = [entry for entry in released() if entry.model == spec.name]
    if entry := matching_entry(path, same_model):
        return entry.info()
    return _official_info(spec, outputs)


def _own_info(path: Path, text: str, spec: ModelSpec, outputs: int) -> ModelInfo:
    try:
        info = ModelInfo(**json.loads(text))
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the description inside {path} is damaged: get the file again") from error
    if info.model != spec.name or info.outputs != outputs:
        raise UserError(
            f"{path} describes {info.model} with {info.outputs} outputs but contains {spec.name} with {outputs}: "
            "get the file again"
        )
    return info


def _official_info(spec: ModelSpec, outputs: int) -> ModelInfo:
    """An official layout that is not a released file: the authors' conventions apply if the class count fits."""
    if spec.task == "classification":
        return generic_info(spec, outputs, imagenet_labels() if outputs == 1000 else None)
    labels = {20: CITYSCAPES, 21: VOC}.get(outputs)
    info = generic_info(spec, outputs, labels)
    if spec.decoder == "psp":
        any_psp = next(entry for entry in released() if entry.source.preprocessing == "psp")
        default = default_preprocessing(spec)
        return info.model_copy(update={"preprocessing": any_psp.preprocessing().resized(default.height, default.width)})
    return info
