"""The Python code in the documentation runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from espnetv2.data.layouts import open_dataset
from helpers import ROOT, Run, picture
from small_data import make_shapes

PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "node_modules" not in page.parts)]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


BLOCKS = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, code in enumerate(python_blocks(page))
]


def make_photos(root: Path) -> None:
    """Five images of each of two classes, not split."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            picture(8, 6).save(root / name / f"{number}.jpg")


def make_pairs(root: Path) -> None:
    """Ten images and their masks, not split."""
    for folder, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / folder).mkdir(parents=True)
        for number in range(10):
            (root / folder / f"{number}{suffix}").touch()


@pytest.mark.parametrize("code", BLOCKS)
def test_code_runs(code: str, official_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPNETV2_WEIGHTS", str(official_weights.resolve()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    make_photos(tmp_path / "unsorted")
    make_pairs(tmp_path / "mydata")
    make_shapes(tmp_path / "shapes")
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


def test_ones_own_data_from_folder_to_prediction(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the page, in its order, but for the number of epochs."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/data/own.md").read_text("utf-8")
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks] == ["python", "python", "sh", "sh", "sh"]
    exec(compile(blocks[1][1], "documentation", "exec"), {"__name__": "documentation"})
    commands = [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    assert [shlex.split(command)[1] for command in commands] == ["check-data", "train", "evaluate", "predict"]
    for command in commands:
        _, *arguments = shlex.split(command.replace("epochs=40", "epochs=1"))
        done = run(*arguments)
        assert done.code == 0, done.stderr
    assert len(list((tmp_path / "maps").glob("*_overlay.jpg"))) == 12


def test_pictures_and_masks_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_pairs(tmp_path / "mydata")
    code, *_ = python_blocks(ROOT / "docs/data/own.md")
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})
    found = {path.relative_to(tmp_path / "mydata") for path in (tmp_path / "mydata").rglob("*.*")}
    images = {path for path in found if path.parts[0] == "images"}
    assert {Path("masks", path.parts[1], f"{path.stem}.png") for path in images} == found - images
    assert sorted(path.parts[1] for path in images) == 8 * ["train"] + 2 * ["val"]


def test_class_folders_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "unsorted")
    # Vehicles have a class of this name.
    (tmp_path / "unsorted/dog").rename(tmp_path / "unsorted/train")
    (tmp_path / "unsorted/.DS_Store").touch()
    (tmp_path / "unsorted/cat/more/still more").mkdir(parents=True)
    (tmp_path / "unsorted/cat/4.jpg").rename(tmp_path / "unsorted/cat/more/still more/4.jpg")
    (code,) = python_blocks(ROOT / "docs/data/imagefolder.md")
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})
    splits = [open_dataset("imagefolder", tmp_path / "photos", split) for split in ("train", "val")]
    assert [len(split) for split in splits] == [8, 2]
    assert [split.labels.classes for split in splits] == 2 * [("cat", "train")]
    assert [path.name for path in (tmp_path / "unsorted").iterdir()] == [".DS_Store"]


def test_lists_for_masks_from_cvat_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
            path = tmp_path / "export" / folder / "drive 1" / f"{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 6)).save(path)
    (tmp_path / "export/JPEGImages/.DS_Store").touch()
    (tmp_path / "export/labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nthing:9,9,9::\n")
    (code,) = python_blocks(ROOT / "docs/data/voc.md")
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})
    counts = {split: len(open_dataset("voc", tmp_path / "export", split)) for split in ("train", "val")}
    assert counts == {"train": 4, "val": 1}


def test_every_command_in_the_documentation_exists(run: Run) -> None:
    for page in PAGES:
        for name in re.findall(r"^espnetv2 ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE):
            assert run(name, "--help").code == 0, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
