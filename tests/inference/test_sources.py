from __future__ import annotations

import io
import os
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.inference.sources import _request, open_sources
from espnetv2.ownership import mark_video, save_jpeg, save_png
from helpers import picture, served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.jpg", "sub/a.jpg", "sub/deep/c.PNG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(8, 6).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    # What macOS puts beside a file.
    (tmp_path / "photos" / "._b.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_entries_of_a_folder_are_sources(folder: Path) -> None:
    with os.scandir(folder) as entries:
        chosen = [entry for entry in entries if entry.name == "b.png"]
    assert [item.source for item in open_sources(chosen).items] == [str(folder / "b.png")]


def test_a_folder_is_searched_recursively_and_names_stay_apart(folder: Path) -> None:
    stream = open_sources([folder])
    assert stream.count == 4
    assert [item.stem for item in stream.items] == ["a", "b", "a_2", "c"]


def test_results_of_earlier_runs_are_left_out(folder: Path, tmp_path: Path) -> None:
    before = open_sources([folder]).count
    assert before == 4
    (tmp_path / "results").mkdir()
    for place in (folder, folder / "sub", tmp_path / "results"):
        save_png(picture(2, 2), place / "class_map.png")
        save_jpeg(picture(2, 2), place / "class_map_overlay.jpg")
    (folder / "a.json").write_text('{"source": "a.jpg", "width": 1, "height": 1, "top": []}')
    (folder / "clip_overlay.mp4").touch()
    mark_video(folder / "clip_overlay.mp4")
    assert open_sources([folder]).count == before
    assert open_sources([str(folder / "**/*[gG4]")]).count == before
    assert open_sources([str(folder / "a.j*")]).count == 1
    with pytest.raises(UserError, match=r"no images in the folder .*: it has only results of earlier predictions"):
        open_sources([tmp_path / "results"])
    with pytest.raises(UserError, match=r"no file matches .*\*\.png\": only results of earlier predictions match it"):
        open_sources([str(tmp_path / "results" / "*.png")])
    # Named, a result is a picture like any other.
    assert open_sources([tmp_path / "results" / "class_map.png"]).count == 1


def test_videos_in_a_folder_are_skipped_and_it_is_said(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "sub" / "clip.MOV").touch()
    (folder / "sub" / "._clip.MOV").touch()
    assert open_sources([folder]).count == 4
    assert f"skipped the videos in folders (1, the first is {folder / 'sub' / 'clip.MOV'}): give them by name" in caplog.text
    caplog.clear()
    assert open_sources([folder, folder / "sub" / "clip.MOV"]).count is None
    assert not caplog.text
    (tmp_path / "clips[1]").mkdir()
    (tmp_path / "clips[1]" / "clip.mp4").touch()
    with pytest.raises(UserError, match="its videos need a pattern, such as") as error:
        open_sources([tmp_path / "clips[1]"])
    assert len(open_sources([str(error.value).split('"')[-2]]).paths) == 1


def test_an_empty_picture_is_told() -> None:
    (item,) = open_sources([Image.new("RGB", (0, 5))]).items
    with pytest.raises(UserError, match="image0: the image is empty: 0x5 pixels"):
        item.read()


def test_an_image_given_twice_is_decoded_by_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(9, 7).save(tmp_path / "a.png")
    given = Image.open(tmp_path / "a.png")
    load, inside = given.load, []

    def slowly() -> object:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.05)
        found = load()
        inside.pop()
        return found

    monkeypatch.setattr(given, "load", slowly)
    with ThreadPoolExecutor(2) as pool:
        sizes = list(pool.map(lambda item: item.read().size, open_sources([given, given]).items))
    assert sizes == [(9, 7), (9, 7)]


def test_different_images_are_decoded_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2, timeout=20)

    def together(image: Image.Image) -> Image.Image:
        both.wait()
        return image

    monkeypatch.setattr("espnetv2.inference.sources.as_rgb", together)
    with ThreadPoolExecutor(2) as pool:
        sizes = list(pool.map(lambda item: item.read().size, open_sources([picture(9, 7), picture(8, 6)]).items))
    assert sizes == [(9, 7), (8, 6)]


def test_globs_and_several_sources_in_order(folder: Path) -> None:
    stream = open_sources([str(folder / "**" / "*.jpg"), folder / "b.png"])
    assert [Path(item.source).name for item in stream.items] == ["a.jpg", "a.jpg", "b.png"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    picture(4, 4).save(tmp_path / "a[1].png")
    assert open_sources([str(tmp_path / "a[1].png")]).count == 1


def test_pictures_and_arrays() -> None:
    stream = open_sources([picture(5, 4), np.zeros((3, 2, 3), np.uint8)])
    assert [item.read().size for item in stream.items] == [(5, 4), (2, 3)]


def test_urls() -> None:
    buffer = io.BytesIO()
    picture(7, 5).save(buffer, "PNG")
    with served({"/x/photo%20one.png": buffer.getvalue()}) as host:
        (found,) = open_sources([f"{host}/x/photo%20one.png"]).items
        assert (found.stem, found.read().size) == ("photo one", (7, 5))
        (absent,) = open_sources([f"{host}/absent.png"]).items
        with pytest.raises(UserError, match=r"absent.png: cannot be downloaded \(Not Found\)"):
            absent.read()


def test_what_cannot_be_read_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("IMG_1.HEIC", "IMG_2.heic", "raw.dng", "notes.txt"):
        (folder / name).touch()
    open_sources([folder])
    assert caplog.messages == [f"{folder}: skipped 3 files that cannot be decoded (.dng, .heic): convert them to JPEG or PNG"]


def test_an_empty_source_is_not_the_folder_that_one_is_in() -> None:
    with pytest.raises(UserError, match="a source is empty"):
        open_sources([""])


@pytest.mark.parametrize(
    ("written", "asked", "stem"),
    [
        ("/straße ä.png?a=b c", "/stra%C3%9Fe%20%C3%A4.png?a=b%20c", "straße ä"),
        ("/a%00b.png", "/a%00b.png", "ab"),
        ("/%2e%2e", "/%2e%2e", "download"),
    ],
)
def test_urls_as_people_copy_them(written: str, asked: str, stem: str) -> None:
    buffer = io.BytesIO()
    picture(7, 5).save(buffer, "PNG")
    with served({asked: buffer.getvalue()}) as host:
        (found,) = open_sources([host + written]).items
        assert (found.stem, found.read().size) == (stem, (7, 5))


def test_a_host_with_an_umlaut() -> None:
    parts = urllib.parse.urlsplit("http://bücher.example:80/a.png#top")
    assert _request(parts) == "http://xn--bcher-kva.example:80/a.png"


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    picture(7, 5).save(buffer, "PNG")
    buffer.seek(0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(buffer))
    (item,) = open_sources(["-"]).items
    assert (item.stem, item.source, item.read().size) == ("stdin", "standard input", (7, 5))


def test_a_picture_object_keeps_its_files_name(tmp_path: Path) -> None:
    picture(4, 4).save(tmp_path / "mine.png")
    with Image.open(tmp_path / "mine.png") as opened:
        (item,) = open_sources([opened]).items
        assert item.stem == "mine"


@pytest.mark.parametrize("source", [torch.zeros(3, 4, 4), b"GIF89a", True, None, {"a": 1}])
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(UserError, match=f"unsupported source of type {type(source).__name__}: give a path"):
        open_sources([source])


@pytest.mark.parametrize(
    ("source", "message"),
    [("absent.jpg", 'no file or folder "absent.jpg"'), ("*.absent", 'no file matches "'), ("", "no images in the folder")],
)
def test_what_is_not_there_is_told_at_once(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        open_sources([source or tmp_path])


def test_a_camera_that_is_not_there_is_told_when_it_is_read() -> None:
    stream = open_sources(["93"])
    assert stream.count is None
    (item,) = stream.items
    with pytest.raises(UserError, match="camera 93 gives no frames"):
        item.read()
