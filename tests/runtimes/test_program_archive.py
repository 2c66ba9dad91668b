"""Whatever a ``.pt2`` archive could run when torch opens it is refused before torch sees it."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from espnetv2.errors import UserError
from espnetv2.exporting.export import export
from espnetv2.info import generic_info
from espnetv2.models.network import Network
from espnetv2.models.registry import model_spec
from espnetv2.preprocessing import Preprocessing
from espnetv2.runtimes.program_archive import EXAMPLE, PROGRAM, checked_archive
from espnetv2.runtimes.runtime import open_runtime
from exports import check_round_trip, small_classification, small_segmentation
from networks import trained_like

WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
Members = dict[str, bytes]


class Command:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self._folder,)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small_segmentation(), tmp_path_factory.mktemp("good") / "good.pt2", format="pt2").path


def rewritten(archive: Path, change: Callable[[Members], None]) -> Path:
    with zipfile.ZipFile(archive) as source:
        top = source.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
    change(members)
    path = archive.parent / "bad.pt2"
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(f"{top}/{name}", content)
    return path


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    value = json.loads(content)
    change(value)
    return json.dumps(value).encode()


def pickled_weight(members: Members, made: Path) -> None:
    payload = io.BytesIO()
    torch.save({"a": Command(made)}, payload)
    members["data/weights/weight_0"] = payload.getvalue()

    def change(configuration: Any) -> None:
        next(iter(configuration["config"].values()))["use_pickle"] = True

    members[WEIGHTS] = edited(members[WEIGHTS], change)


def pickled_constant(members: Members, made: Path) -> None:
    members["data/constants/opaque_obj_0"] = pickle.dumps(Command(made))
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    members[CONSTANTS] = edited(members[CONSTANTS], lambda configuration: configuration["config"].update(a=entry))


def guard(members: Members, made: Path) -> None:
    code = [f"__import__('os').mkdir({str(made)!r}) is None"]
    members[PROGRAM] = edited(members[PROGRAM], lambda program: program.update(guards_code=code))


def expression(members: Members, made: Path) -> None:
    code = f"Basic.compare.__globals__['__builtins__']['__import__']('os').mkdir({str(made)!r})"

    def change(program: Any) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        values["image"]["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}

    members[PROGRAM] = edited(members[PROGRAM], change)


def name(members: Members, made: Path) -> None:
    """It becomes a part of the source that torch compiles."""
    image = f"image=__import__('os').mkdir({str(made)!r})"
    members[PROGRAM] = members[PROGRAM].replace(b'"image"', json.dumps(image).encode())


def operator(members: Members, made: Path) -> None:
    del made
    members[PROGRAM] = members[PROGRAM].replace(b"torch.ops.aten.sigmoid.default", b"torch.ops.profiler._record.default")


def mapped_file(members: Members, made: Path) -> None:
    """torch opens a file of this name for writing."""
    arguments = [
        {"name": "filename", "arg": {"as_string": made.name}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
        {"name": "size", "arg": {"as_int": 16}, "kind": 1},
    ]

    def change(program: Any) -> None:
        node = next(node for node in program["graph_module"]["graph"]["nodes"] if "sigmoid" in node["target"])
        node.update(target="torch.ops.aten.from_file.default", inputs=arguments)

    members[PROGRAM] = edited(members[PROGRAM], change)


def attribute(members: Members, made: Path) -> None:
    del made
    inside = b"torch.ops.aten.__class__.__init__.__builtins__.get"
    members[PROGRAM] = members[PROGRAM].replace(b"torch.ops.aten.sigmoid.default", inside)


def library(members: Members, made: Path) -> None:
    del made
    members["data/aotinductor/model/model.so"] = b"ELF"


HARMS = [pickled_weight, pickled_constant, guard, expression, name, operator, mapped_file, attribute, library]


@pytest.mark.parametrize("harm", HARMS)
def test_what_would_run_is_refused(good: Path, tmp_path: Path, harm: Callable[[Members, Path], None]) -> None:
    path = rewritten(good, lambda members: harm(members, tmp_path / "made"))
    with pytest.raises(UserError, match=r"bad\.pt2 was refused, since it contains more than a network \(.*\): export it again"):
        open_runtime(path)
    assert not (tmp_path / "made").exists()


def small_psp() -> Network:
    network = trained_like("espnetv2_seg_psp_s0_5", 20)
    network.info = generic_info(model_spec("espnetv2_seg_psp_s0_5"), 20).model_copy(
        update={"preprocessing": Preprocessing(height=64, width=96)}
    )
    return network


@pytest.mark.parametrize("make", [small_segmentation, small_classification, small_psp])
def test_every_export_is_accepted(make: Callable[[], Network], tmp_path: Path) -> None:
    network = make()
    assert network.info is not None
    reversed_channels = network.info.preprocessing.model_copy(update={"channels": "BGR"})
    network.info = network.info.model_copy(update={"preprocessing": reversed_channels})
    check_round_trip(network, tmp_path / "all.pt2", format="pt2", input="uint8", output="classes")


def test_an_example_input_is_not_looked_at(good: Path, tmp_path: Path) -> None:
    payload = io.BytesIO()
    torch.save(Command(tmp_path / "made"), payload)
    path = rewritten(good, lambda members: members.update({EXAMPLE: payload.getvalue()}))
    assert open_runtime(path).description == open_runtime(good).description
    assert not (tmp_path / "made").exists()


def test_more_than_any_network_is_refused(good: Path) -> None:
    def swell(members: Members) -> None:
        members["data/weights/weight_0"] = bytes(257 * 2**20)

    path = rewritten(good, swell)
    with pytest.raises(UserError, match="256 MiB"):
        open_runtime(path)
    path.unlink()


def test_a_file_tells_nothing_of_whom_it_is_from(good: Path) -> None:
    content = checked_archive(good).getvalue()
    assert b"espnetv2/exporting" not in content
    assert str(Path(__file__).parents[2]).encode() not in content
