"""Create a model by name, with or without trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnetv2.errors import UserError
from espnetv2.info import ModelInfo, default_preprocessing
from espnetv2.labels import distinct_palette
from espnetv2.models.registry import ModelSpec, model_spec
from espnetv2.weights.checkpoint import Checkpoint, check_described
from espnetv2.weights.resolve import is_checkpoint, resolve
from espnetv2.weights.transfer import start_from

if TYPE_CHECKING:
    from espnetv2.models.network import Network


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    weights_dir: str | Path | None = None,
) -> Network:
    """Build a model with random parameters, with trained weights, or to be trained for other classes.

    Args:
        name: a model's name (``espnetv2.list_models()``), or ``model.tag`` for the model with those weights.
        weights: a tag of the model, ``model.tag`` (``espnetv2.list_weights(name)``), or a checkpoint file, this project's or
            official. Without it the parameters are random, initialised as published.
        num_classes: number of outputs. By default that of the weights; without weights as published, or one for each of
            ``classes``, for segmentation at least 20. The width of the decoder "pyramid" depends on it (half as many channels
            as outputs, at most 16), so more outputs than classes are useful: those beyond the classes are never predicted.
        classes: names of the classes to train for. The network then has a description of its own, with which it can be used,
            saved and exported after your training loop. With ``weights``, all parameters that fit are copied, at least the
            encoder's; in the last layer, classes with the same name keep their row, and all others start from 0.
        weights_dir: folder that is searched first for released files, before the one named by the variable
            ESPNETV2_WEIGHTS, the cache and the network.

    Returns:
        The network, float32 on the CPU: in evaluation mode if it has trained weights and no ``classes`` were given, otherwise
        in training mode. Its attribute ``info`` describes the weights (None without weights and classes).

    Raises:
        UserError: unknown model, tag or file; weights of another model or number of classes; a number of classes that is not
            whole; a failed download.
    """
    if not isinstance(name, str):
        raise UserError(f"{name!r} is not the name of a model: espnetv2.list_models() lists them")
    if is_checkpoint(name):
        raise UserError(f'"{name}" is a file, not a model: give the model\'s name, and the file as its weights')
    if weights is not None and not isinstance(weights, str | Path):
        raise UserError(
            f"weights is a {type(weights).__name__}: give a tag or a file; a state dict is loaded with model.load_state_dict"
        )
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise UserError(f"num_classes is {num_classes!r}: give a whole number")
    base, _, tag = name.partition(".")
    spec = model_spec(base)
    if tag and weights is not None:
        raise UserError(f'weights are given twice, "{tag}" in the model\'s name and "{weights}": give them once')
    named = tag or weights
    checkpoint = None if named is None else resolve(named, model=base, weights_dir=weights_dir)
    if classes is not None:
        return _for_classes(spec, classes, num_classes, checkpoint)
    if checkpoint is None:
        return spec.build(num_classes)
    if checkpoint.spec != spec:
        raise UserError(f"{checkpoint.path} contains weights of {checkpoint.spec.name}, not of {base}: give that model's name")
    outputs = checkpoint.info.outputs
    if num_classes not in (None, outputs):
        raise UserError(
            f"{checkpoint.path} has {outputs} outputs, not {num_classes}: leave out num_classes, "
            "or give classes to train these weights for others"
        )
    return load_model(checkpoint)


def find_network(model: str | Path | Network, weights: str | Path | None, weights_dir: str | Path | None) -> Network:
    """The network that a name or a checkpoint file stands for, or the given one itself.

    Raises:
        UserError: unknown model or weights; a given model that is not trained, or whose description does not fit.
    """
    if not isinstance(model, str | Path):
        if weights is not None:
            raise UserError(
                "this model already has its weights: leave out weights, or give the model's name instead of the model"
            )
        return _trained(model)
    if weights is None:
        return load_model(resolve(model, weights_dir=weights_dir))
    return create_model(str(model), weights=weights, weights_dir=weights_dir)


def load_model(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, in evaluation mode.

    Raises:
        UserError: parameters are missing or have another shape.
    """
    model = checkpoint.spec.build(checkpoint.info.outputs)
    try:
        model.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path} is not a complete {checkpoint.spec.name}: {_first_problem(error)}") from error
    model.info = checkpoint.info
    return model.eval()


def _trained(model: object) -> Network:
    """Check that something is a network of this package, with a description that fits its parameters.

    Raises:
        UserError: it is not.
    """
    from torch.nn import Module

    from espnetv2.models.classification import ClassificationModel
    from espnetv2.models.segmentation import SegmentationModel

    # As DistributedDataParallel and torch.compile name the network inside.
    for name in ("module", "_orig_mod"):
        inside = getattr(model, name, None)
        model = inside if isinstance(inside, Module) else model
    if not isinstance(model, ClassificationModel | SegmentationModel):
        if isinstance(getattr(model, "plain", None), ClassificationModel | SegmentationModel):
            raise UserError("this model has been accelerated, for inference only: give the original model")
        raise UserError(f"{type(model).__name__} is not a network of this package: create one with espnetv2.create_model")
    if model.info is None:
        raise UserError(
            "this model has no trained weights: create it with weights=..., or with classes=... to train it yourself"
        )
    check_described("the network", model.state_dict(), model.info)
    return model


def _for_classes(spec: ModelSpec, classes: Sequence[str], num_classes: int | None, checkpoint: Checkpoint | None) -> Network:
    """A network to be trained for these classes, initialised from a checkpoint if there is one."""
    names = tuple(classes) if isinstance(classes, Sequence) else ()
    named = not isinstance(classes, str) and all(isinstance(name, str) and name for name in names)
    if not names or not named or len(set(names)) < len(names):
        raise UserError(f"classes are {classes!r}: give a list of at least one name, without duplicates")
    usual = max(len(names), spec.default_classes) if spec.task == "segmentation" else len(names)
    outputs = usual if num_classes is None else num_classes
    if outputs < len(names):
        raise UserError(f"{outputs} outputs are too few for {len(names)} classes: leave out num_classes")
    network = spec.build(outputs)
    fits = checkpoint is not None and checkpoint.spec.task == spec.task
    network.info = ModelInfo(
        model=spec.name,
        outputs=outputs,
        classes=names,
        palette=distinct_palette(len(names)) if spec.task == "segmentation" else (),
        preprocessing=checkpoint.info.preprocessing if checkpoint and fits else default_preprocessing(spec),
    )
    if checkpoint is not None:
        start_from(network, network.info, checkpoint)
    return network


def _first_problem(error: RuntimeError) -> str:
    lines = str(error).splitlines()
    return lines[1].strip() if len(lines) > 1 else lines[0]
