"""Official parameter names <-> this project's, in both directions.

The authors published two repositories with four naming layouts. The correspondence is written down once, module by module,
in the order in which the network is built; each direction reads that table from one side.

Two groups of official parameters take part in no computation, ``level{2..5}_0.eesp.module_act`` and
``level5_0.inp_reinf``: they are dropped on import, and written with their initial values on export.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from espnetv2.errors import UserError

StateDict = dict[str, Tensor]
Layout = Literal["classification", "psp", "pyramid"]
Pairs = Iterator[tuple[str, str]]

_UNITS = {3: 3, 4: 7, 5: 3}
_NEVER_USED = re.compile(r"^(net\.|base_net\.)?level(5_0\.inp_reinf|[2-5]_0\.eesp\.module_act)\.")
_SIGNS: dict[Layout, tuple[str, str]] = {
    "classification": ("classifier.weight", "classifier.weight"),
    "psp": ("decoder.project4.conv.weight", "proj_L4_C.conv.weight"),
    "pyramid": ("decoder.pool4.project.conv.weight", "bu_dec_l1.projection_layer.cbr.0.weight"),
}


def convert_official(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Parameters of any official checkpoint under this project's names.

    Args:
        state_dict: official name -> tensor, of any of the four layouts (classification or segmentation, of either
            repository), with or without the ``module.`` that DataParallel adds. Not modified; tensors are shared.

    Returns:
        own name -> tensor, which ``load_state_dict`` of the matching model accepts strictly.

    Raises:
        UserError: the names are not those of an official checkpoint.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    layout = _layout(plain, official=True)
    own_of = {official: own for own, official in _module_names(layout).items()}
    return {_rename(name, own_of): tensor for name, tensor in plain.items() if not _NEVER_USED.match(name)}


def to_official(state_dict: Mapping[str, Tensor], *, data_parallel: bool | None = None) -> StateDict:
    """The inverse of ``convert_official``: a state dict that the authors' code loads strictly.

    Args:
        state_dict: own name -> tensor, complete. Not modified; tensors are shared.
        data_parallel: whether names begin with ``module.``. By default as in the released files: they do for
            classification and the "psp" decoder, and do not for "pyramid".

    Returns:
        official name -> tensor. The parameters that this project leaves out, because they are never trained, have their
        initial values (PReLU 0.25, identity normalisation) or, where those are random, 0.

    Raises:
        UserError: the names are not those of one of this project's models.
    """
    layout = own_layout(state_dict)
    official_of = _module_names(layout)
    plain = {_rename(name, official_of): tensor for name, tensor in state_dict.items()}
    for name, tensor in list(plain.items()):
        if match := re.match(r"(.*level[2-5]_0\.eesp\.)br_after_cat\.act\.weight$", name):
            plain[f"{match[1]}module_act.weight"] = torch.full_like(tensor, 0.25)
    if layout == "classification":
        plain.update(_unused_shortcut(plain["level5_0.act.weight"]))
    prefix = "module." if (layout != "pyramid" if data_parallel is None else data_parallel) else ""
    return {prefix + name: tensor for name, tensor in plain.items()}


def is_official(names: Mapping[str, object]) -> bool:
    """Whether these parameter names follow one of the authors' layouts."""
    return any(re.search(r"(^|\.)level2_0\.eesp\.", name) for name in names)


def own_layout(names: Mapping[str, object]) -> Layout:
    """Which of this project's networks these parameter names belong to.

    Raises:
        UserError: none of them.
    """
    return _layout(names, official=False)


def _layout(names: Mapping[str, object], *, official: bool) -> Layout:
    if official == is_official(names):
        for layout, signs in _SIGNS.items():
            if signs[official] in names:
                return layout
    kind = "an official ESPNetv2 checkpoint" if official else "the parameters of an espnetv2 model"
    first = next(iter(names), None)
    found = "it is empty" if first is None else f'its first parameter is "{first}"'
    raise UserError(f"not {kind}: {found}")


def _rename(name: str, modules: Mapping[str, str]) -> str:
    module, _, leaf = name.rpartition(".")
    if module not in modules:
        raise UserError(f'not an ESPNetv2 checkpoint: no version of the network has a parameter "{name}"')
    return f"{modules[module]}.{leaf}"


def _unused_shortcut(like: Tensor) -> StateDict:
    prefix, channels = "level5_0.inp_reinf", like.numel()
    out: StateDict = {f"{prefix}.0.act.weight": like.new_full((3,), 0.25)}
    for index, shape in enumerate(((3, 3, 3, 3), (channels, 3, 1, 1))):
        out[f"{prefix}.{index}.conv.weight"] = like.new_zeros(shape)
        out[f"{prefix}.{index}.bn.weight"] = like.new_ones(shape[0])
        out[f"{prefix}.{index}.bn.bias"] = like.new_zeros(shape[0])
        out[f"{prefix}.{index}.bn.running_mean"] = like.new_zeros(shape[0])
        out[f"{prefix}.{index}.bn.running_var"] = like.new_ones(shape[0])
        out[f"{prefix}.{index}.bn.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    return out


@cache
def _module_names(layout: Layout) -> dict[str, str]:
    """Own module name -> official module name, for every module that owns tensors."""
    if layout == "classification":
        return dict([*_encoder(""), *_classifier()])
    if layout == "psp":
        return dict([*_encoder("net."), *_psp()])
    return dict([*_encoder("base_net."), *_pyramid()])


def _parts(own: str, official: str, *names: tuple[str, str]) -> Pairs:
    for own_name, official_name in names:
        yield f"{own}.{own_name}", f"{official}.{official_name}"


def _named(own: str, official: str, *names: str) -> Pairs:
    yield from _parts(own, official, *((name, name) for name in names))


def _numbered(own: str, official: str, *names: str) -> Pairs:
    yield from _parts(own, official, *((name, str(index)) for index, name in enumerate(names)))


def _transform(own: str, official: str) -> Pairs:
    yield from _named(f"{own}.reduce", f"{official}.proj_1x1", "conv", "bn", "act")
    for branch in range(4):
        yield f"{own}.branches.{branch}", f"{official}.spp_dw.{branch}.conv"
    yield from _named(f"{own}.norm", f"{official}.br_after_cat", "bn", "act")
    yield from _named(f"{own}.expand", f"{official}.conv_1x1_exp", "conv", "bn")


def _eesp(own: str, official: str) -> Pairs:
    yield from _transform(own, official)
    yield f"{own}.act", f"{official}.module_act"


def _level(own: str, official: str, level: int) -> Pairs:
    yield from _transform(f"{own}level{level}.down.eesp", f"{official}level{level}_0.eesp")
    if level < 5:
        shortcut = f"{own}level{level}.down.shortcut", f"{official}level{level}_0.inp_reinf"
        yield from _named(f"{shortcut[0]}.mix", f"{shortcut[1]}.0", "conv", "bn", "act")
        yield from _named(f"{shortcut[0]}.project", f"{shortcut[1]}.1", "conv", "bn")
    yield f"{own}level{level}.down.act", f"{official}level{level}_0.act"
    for unit in range(_UNITS.get(level, 0)):
        yield from _eesp(f"{own}level{level}.units.{unit}", f"{official}level{level}.{unit}")


def _encoder(official: str) -> Pairs:
    yield from _named("encoder.level1", f"{official}level1", "conv", "bn", "act")
    for level in (2, 3, 4):
        yield from _level("encoder.", official, level)


def _classifier() -> Pairs:
    yield from _level("", "", 5)
    yield from _named("depthwise", "level5.3", "conv", "bn", "act")
    yield from _named("expand", "level5.4", "conv", "bn", "act")
    yield "classifier", "classifier"


def _psp() -> Pairs:
    yield from _named("decoder.project4", "proj_L4_C", "conv", "bn", "act")
    yield from _eesp("decoder.eesp", "pspMod.0")
    for stage in range(4):
        yield f"decoder.psp.stages.{stage}", f"pspMod.1.stages.{stage}.conv"
    yield from _named("decoder.psp.project", "pspMod.1.project", "conv", "bn", "act")
    yield "decoder.classify3.1", "project_l3.1.conv"
    yield from _named("decoder.norm3", "act_l3", "bn", "act")
    yield from _named("decoder.project2", "project_l2", "conv", "bn", "act")
    yield "decoder.classify1.1", "project_l1.1.conv"


def _pyramid() -> Pairs:
    # The authors count decoder steps from the deepest; here a step has the number of the encoder level that it joins.
    for step, level in enumerate((4, 3, 2, 1), start=1):
        own, official = f"decoder.pool{level}", f"bu_dec_l{step}"
        yield from _numbered(f"{own}.project", f"{official}.projection_layer.cbr", "conv", "bn", "act")
        for stage in range(5):
            yield f"{own}.stages.{stage}.conv", f"{official}.stages.{stage}"
        yield from _numbered(f"{own}.norm", f"{official}.merge_layer.0.br", "bn", "act")
        yield from _numbered(f"{own}.merge", f"{official}.merge_layer.2.cbr", "conv", "bn", "act")
        yield f"{own}.expand", f"{official}.merge_layer.3"
        if level > 1:
            yield from _numbered(f"{own}.out_norm", f"{official}.br.br", "bn", "act")
    for step, level in enumerate((3, 2, 1), start=2):
        own, official = f"decoder.skip{level}", f"merge_enc_dec_l{step}"
        yield from _numbered(f"{own}.expand", f"{official}.expansion_layer.cbr", "conv", "bn", "act")
        yield f"{own}.gate", f"{official}.wt_layer.1"
        yield from _numbered(f"decoder.fuse{level}", f"bu_br_l{step}", "bn", "act")
