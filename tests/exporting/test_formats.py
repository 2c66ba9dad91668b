"""Formats that this environment's packages write; ExecuTorch and LiteRT have files of their own."""

from __future__ import annotations

import json
import platform
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from espnetv2.cli.export import FORMATS_HELP
from espnetv2.errors import UserError
from espnetv2.exporting.export import export
from espnetv2.exporting.formats import FORMATS
from espnetv2.runtimes.description import Description, Precision, read_description
from espnetv2.runtimes.runtime import KINDS, open_runtime
from espnetv2.runtimes.tensorrt import split_description, with_description
from exports import check_round_trip, small_classification, small_segmentation
from helpers import SAMPLE, Run
from small_data import make_folders

NEW = ("executorch", "ncnn", "litert", "coreml", "tensorrt")


@pytest.fixture(scope="module")
def ncnn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ncnn") / "model.ncnn"
    export(small_classification(), out, format="ncnn")
    return out


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_ncnn_gives_what_the_network_gives(precision: Precision, tmp_path: Path) -> None:
    out = tmp_path / "model.ncnn"
    done = check_round_trip(small_segmentation(), out, format="ncnn", precision=precision)
    assert sorted(path.name for path in out.iterdir()) == ["espnetv2.json", "model.bin", "model.param"]
    assert done.size == sum(path.stat().st_size for path in out.iterdir())


def test_a_height_at_which_ncnn_would_crash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="height 16: NCNN's runtime crashes on this decoder below 17: choose a larger size"):
        export(small_segmentation(), tmp_path / "model.ncnn", format="ncnn", size=(16, 96))
    assert not list(tmp_path.iterdir())


def test_ncnn_classifies(tmp_path: Path) -> None:
    check_round_trip(small_classification(), tmp_path / "model.ncnn", format="ncnn")


def test_ncnn_replaces_an_older_folder(tmp_path: Path) -> None:
    out = tmp_path / "model.ncnn"
    out.mkdir()
    (out / "espnetv2.json").touch()
    (out / "left").touch()
    check_round_trip(small_classification(), out, format="ncnn")
    assert not (out / "left").exists()


@pytest.mark.parametrize("name", ["model.param", "model.bin"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense\n" * 9])
def test_a_damaged_ncnn_folder_is_one_line(
    name: str, content: bytes | None, ncnn_folder: Path, tmp_path: Path, run: Run
) -> None:
    damaged = tmp_path / "model.ncnn"
    damaged.mkdir()
    for path in ncnn_folder.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / name).unlink()
    if content is not None:
        (damaged / name).write_bytes(content)
    outcome = run("predict", "--model", damaged, SAMPLE, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "is damaged, or model.param or model.bin is missing" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_an_ncnn_folder_without_description_is_refused(ncnn_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "model.ncnn"
    bare.mkdir()
    (bare / "model.param").write_bytes((ncnn_folder / "model.param").read_bytes())
    with pytest.raises(UserError, match="does not contain a description"):
        open_runtime(bare)


def test_evaluate_takes_an_ncnn_folder(tmp_path: Path, run: Run, ncnn_folder: Path) -> None:
    classes = tuple(f"class{index}" for index in range(7))
    data = make_folders(tmp_path / "data", count=1, classes=classes)
    outcome = run("evaluate", ncnn_folder, "--data", data, "--out", tmp_path / "plots", "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["images"] == 7


@pytest.mark.skipif(platform.system() == "Darwin", reason="macOS runs Core ML")
def test_core_ml_is_converted_and_said_to_be_unverified(tmp_path: Path, run: Run, segmentation_file: Path) -> None:
    out = tmp_path / "model.mlpackage"
    outcome = run("export", segmentation_file, "--format", "coreml", "--out", out)
    assert outcome.code == 0, outcome.stderr
    assert "NOT verified: Core ML runs on macOS only" in outcome.stdout
    utilities: Any = import_module("coremltools.models.utils")
    spec = utilities.load_spec(str(out))
    description = read_description(spec.description.metadata.userDefined["espnetv2"], out)
    assert description.format == "coreml"
    assert [(item.name, list(item.type.multiArrayType.shape)) for item in spec.description.input] == [("image", [1, 3, 32, 64])]
    assert [(item.name, list(item.type.multiArrayType.shape)) for item in spec.description.output] == [
        ("logits", [1, 20, 32, 64])
    ]
    with pytest.raises(UserError, match="Core ML runs on macOS only"):
        open_runtime(out)


def test_a_tensorrt_engine_carries_its_description_in_front() -> None:
    info = small_classification().info
    assert info is not None
    description = Description(info=info, format="tensorrt", version="1")
    text, engine = split_description(with_description(b"ptrt engine", description))
    assert engine == b"ptrt engine"
    assert read_description(text, Path("model.engine")) == description
    assert split_description(b"ptrt engine") == (None, b"ptrt engine")
    assert split_description(b"") == (None, b"")


@pytest.mark.parametrize("name", NEW)
def test_a_missing_package_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run, segmentation_file: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    out = tmp_path / "out" / f"model{FORMATS[name].suffix}"
    outcome = run("export", segmentation_file, "--format", name, "--out", out)
    assert outcome.code == 2
    assert FORMATS[name].packages[0] in outcome.stderr
    assert f"pip install '.[{name}]'" in outcome.stderr
    assert not out.parent.exists()


@pytest.mark.parametrize("suffix", [".ncnn", ".pte", ".tflite"])
def test_a_missing_runtime_is_named_with_its_extra(suffix: str, ncnn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ncnn_folder.with_suffix(suffix)
    if suffix != ".ncnn":
        path.touch()
    packages = ("ncnn", "executorch", "ai_edge_litert")
    # What another test has imported would be found all the same.
    for name in (*packages, *(name for name in sys.modules if name.partition(".")[0] in packages)):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"which is not installed: pip install '\.\[{KINDS[suffix].extra}\]'"):
        open_runtime(path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("executorch", ["--precision", "fp16"], "executorch files do not support fp16: choose fp32"),
        ("executorch", ["--dynamic"], "a fixed input size"),
        ("ncnn", ["--input", "uint8"], "ncnn files do not support uint8 input: choose input float32"),
        ("ncnn", ["--output", "classes"], "ncnn files do not support classes as output: choose output logits"),
        ("coreml", ["--input", "uint8"], "coreml files do not support uint8"),
        ("litert", ["--precision", "int8"], "litert files do not support int8"),
        ("tensorrt", ["--output", "classes"], "tensorrt files do not support classes"),
    ],
)
def test_what_a_format_cannot_do_is_refused_before_any_work(
    name: str, options: list[str], message: str, tmp_path: Path, run: Run, segmentation_file: Path
) -> None:
    out = tmp_path / "out" / f"model{FORMATS[name].suffix}"
    outcome = run("export", segmentation_file, "--format", name, "--out", out, *options)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not out.parent.exists()


def test_the_help_names_every_format_and_which_are_untested() -> None:
    tested, untested = FORMATS_HELP.split(";")
    for name, found in FORMATS.items():
        assert name in (tested if found.tested else untested)


def test_every_format_is_opened_by_its_suffix() -> None:
    assert {found.suffix for found in FORMATS.values()} == set(KINDS)


def test_unverified_is_said_in_json(tmp_path: Path, run: Run, segmentation_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = FORMATS["ncnn"]._replace(runs_on=("elsewhere",))
    monkeypatch.setitem(FORMATS, "ncnn", row)
    outcome = run("export", segmentation_file, "--format", "ncnn", "--out", tmp_path / "model.ncnn", "--json")
    answer = json.loads(outcome.stdout)
    assert answer["verified"] is False
    assert answer["agreement"] is None
    assert answer["bytes"] > 0
