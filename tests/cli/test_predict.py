"""The program as its user meets it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from espnetv2.acceleration.compiler import KernelsUnavailableError, kernels
from espnetv2.inference.video import Frame, VideoWriter, read_frames
from espnetv2.weights.catalogue import DEFAULT_MODEL
from helpers import Outcome, Run, picture


def assert_one_line_error(done: Outcome, *parts: str) -> None:
    assert done.code == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("espnetv2: error: ")
    for part in parts:
        assert part in done.stderr


def test_a_folder_with_a_broken_picture(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    picture(50, 40).save(folder / "a.jpg")
    picture(30, 20).convert("CMYK").save(folder / "sub" / "c.jpg")
    (folder / "b.png").write_bytes(b"")
    done = run("predict", folder, "--model", segmentation_file, "--out", tmp_path / "out", "--json")
    assert done.code == 1
    assert "b.png: the file is empty" in done.stderr
    assert "1 of 3 could not be predicted" in done.stderr
    answer = json.loads(done.stdout)
    assert answer["model"] == str(segmentation_file)
    assert [Path(row["source"]).name for row in answer["results"]] == ["a.jpg", "c.jpg"]
    assert len(answer["failed"]) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a_overlay.jpg", "c.png", "c_overlay.jpg"]
    with Image.open(tmp_path / "out" / "c.png") as written:
        assert (written.size, written.mode) == ((30, 20), "P")


def test_classification_from_standard_input(
    run: Run, classification_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(50, 40).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    done = run("predict", "-", "--model", "espnetv2_s0_5", "--weights", classification_file, "--top-k", 2, stdin=content)
    assert done.code == 0, done.stderr
    assert "standard input -> predictions/stdin.json" in done.stdout
    assert len(json.loads((tmp_path / "predictions" / "stdin.json").read_text())["top"]) == 2


def test_a_video_becomes_an_overlaid_video(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for shade in range(0, 250, 50):
        writer.write(np.full((64, 96, 3), shade, np.uint8))
    writer.release()
    done = run("predict", tmp_path / "clip.mp4", "--model", segmentation_file, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    assert [row["frame"] for row in json.loads(done.stdout)["results"]] == [0, 1, 2, 3, 4]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip_overlay.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip_overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) >= 96
    capture.release()
    done = run("predict", tmp_path / "clip.mp4", "--model", segmentation_file, "--out", tmp_path / "out")
    written, shares = done.stdout.splitlines()
    assert written == f"{tmp_path}/clip.mp4 -> {tmp_path}/out/clip_overlay.mp4"
    assert shares.startswith("    first frame: ")


def test_weights_without_a_model(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    done = run("predict", tmp_path / "a.png", "--weights", segmentation_file)
    assert_one_line_error(done, f"--weights {segmentation_file} needs --model with the model's name")


def test_weights_given_twice(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    picture(50, 40).save(tmp_path / "a.png")
    done = run("predict", tmp_path / "a.png", "--model", DEFAULT_MODEL, "--weights", segmentation_file)
    assert_one_line_error(done, "weights are given twice")


def test_label_ids(run: Run, segmentation_file: Path, classification_file: Path, tmp_path: Path) -> None:
    picture(50, 40).save(tmp_path / "a.png")
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out", "--label-ids")
    assert done.code == 0, done.stderr
    with Image.open(tmp_path / "out" / "a.png") as written:
        assert written.mode == "L"
        assert np.asarray(written).min() >= 7
    done = run("predict", tmp_path / "a.png", "--model", classification_file, "--out", tmp_path / "no", "--label-ids")
    assert_one_line_error(done, "--label-ids requires the Cityscapes classes")
    assert not (tmp_path / "no").exists()


def test_label_ids_of_a_video_are_refused_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    done = run("predict", tmp_path / "clip.mp4", "--out", tmp_path / "out", "--label-ids")
    assert_one_line_error(done, "--label-ids is for images only")
    assert not (tmp_path / "out").exists()


def test_names_that_the_terminal_cannot_show(segmentation_file: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(50, 40).save(tmp_path / "in/日本.png")
    program = [sys.executable, "-m", "espnetv2", "predict", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run([*program, str(segmentation_file)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\u65e5\\u672c.png ->" in done.stdout


def test_a_path_that_may_not_be_looked_at(run: Run) -> None:
    done = run("predict", "a" * 300 + ".jpg")
    assert_one_line_error(done, "File name too long")


def test_a_source_is_never_written_over(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    picture(50, 40).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path)
    assert_one_line_error(done, "would be overwritten: choose another --out")
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_source_video_is_never_written_over(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    for name in ("v.mp4", "v_overlay.mp4"):
        writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
        for shade in range(9):
            writer.write(np.full((64, 96, 3), shade, np.uint8))
        writer.release()
    before = (tmp_path / "v_overlay.mp4").read_bytes()
    sources = (tmp_path / "v.mp4", tmp_path / "v_overlay.mp4")
    done = run("predict", *sources, "--model", segmentation_file, "--out", tmp_path)
    assert done.code == 1
    assert done.stderr.count("would be overwritten") == 1
    assert "1 of 10 could not be predicted" in done.stderr
    assert (tmp_path / "v_overlay.mp4").read_bytes() == before


def test_where_nothing_can_be_done_json_still_says_why(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    done = run("predict", tmp_path, "--model", segmentation_file, "--out", tmp_path / "x" / "y", "--json")
    assert done.code == 2
    assert len(json.loads(done.stdout)["failed"]) == 2
    assert not (tmp_path / "x").exists()


def test_a_result_that_cannot_be_written_does_not_stop_the_rest(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 245}.png"
    picture(8, 8).save(long)
    picture(8, 8).save(tmp_path / "y.png")
    done = run("predict", tmp_path, "--model", segmentation_file, "--out", tmp_path / "out")
    assert done.code == 1
    assert "its result cannot be written (File name too long)" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["y.png", "y_overlay.jpg"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "espnetv2_seg_s20"], ['no model "espnetv2_seg_s20"', 'did you mean "espnetv2_seg_s2_0"?']),
        (["--model", "espnetv2_seg_s0_5.cityscape"], ['no weights "cityscape"', "did you mean"]),
        (
            ["--model", "espnetv2_seg_s1_0", "--weights", "FILE"],
            ["contains weights of espnetv2_seg_s0_5, not of espnetv2_seg_s1_0"],
        ),
        (["--model", "FILE", "--device", "cuda:7"], ['no device "cuda:7"', "choose auto or cpu"]),
        (["--model", "FILE", "--device", "tpu"], ['no device "tpu"']),
        (["--model", "FILE", "--size", "12"], ['"12" is not a size']),
        (["--model", "FILE", "--batch", "0"], ["--batch"]),
        (["--model", "FILE", "--out", "a.png"], ['cannot write to the folder "a.png": it is a file']),
        (["--modle", "FILE"], ["--modle"]),
        (["--model", "absent.pth"], ["absent"]),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run,
    arguments: list[str],
    parts: list[str],
    segmentation_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture(8, 8).save(tmp_path / "a.png")
    named = [str(segmentation_file) if argument == "FILE" else argument for argument in arguments]
    monkeypatch.chdir(tmp_path)
    assert_one_line_error(run("predict", "a.png", *named), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_one_broken_picture_alone_is_an_error(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    # Whoever builds the kernels is told so, on stderr too.
    with contextlib.suppress(KernelsUnavailableError):
        kernels()
    (tmp_path / "a.png").write_text("no picture")
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out")
    assert_one_line_error(done, "a.png: not an image")
    assert not (tmp_path / "out").exists()
    assert_one_line_error(run("predict", tmp_path / "absent.png"), 'no file or folder "')
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out", "--json")
    assert done.code == 2
    assert [row["source"] for row in json.loads(done.stdout)["failed"]] == [str(tmp_path / "a.png")]


def test_a_full_disk_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("espnetv2.data.layouts.open_dataset", full)
    done = run("check-data", "--data", tmp_path)
    assert_one_line_error(done, "cannot write any more (No space left on device): free some space")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory"), OSError(12, "no")])
def test_too_little_memory_is_one_line(
    run: Run, segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("espnetv2.inference.network.NetworkEngine.run", full)
    picture(50, 40).save(tmp_path / "a.png")
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out")
    assert_one_line_error(done, "out of memory: use a smaller size or batch")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_job_that_is_ended_leaves_no_part_of_a_file(
    name: str, run: Run, segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number: signal.Signals | None = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"there is no {name} here")
    before = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    remove = Path.unlink

    def ended(*_: object) -> None:
        signal.raise_signal(number)

    def ended_again(path: Path, missing_ok: bool = False) -> None:
        if name != "SIGINT":
            signal.raise_signal(number)
        remove(path, missing_ok)

    picture(50, 40).save(tmp_path / "a.png")
    monkeypatch.setattr("espnetv2.inference.results.save_jpeg", ended)
    monkeypatch.setattr(Path, "unlink", ended_again)
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out")
    signal.signal(number, before)
    assert done.code == 128 + number
    assert done.stderr.endswith("espnetv2: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_a_camera_that_is_stopped_is_a_complete_result(
    run: Run, segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, write = [Frame(picture(50, 40), number, float(number), None) for number in range(3)], VideoWriter.write

    def until_ctrl_c(writer: VideoWriter, frame: Image.Image) -> None:
        if writer._count == 26:
            raise KeyboardInterrupt
        write(writer, frame)

    monkeypatch.setattr("espnetv2.inference.sources.read_frames", lambda _: iter(shown))
    monkeypatch.setattr(VideoWriter, "write", until_ctrl_c)
    (tmp_path / "broken.jpg").write_text("no picture")
    done = run("predict", tmp_path / "broken.jpg", "0", "--model", segmentation_file, "--out", tmp_path / "out", "--json")
    assert done.code == 1
    answer = json.loads(done.stdout)
    assert [result["frame"] for result in answer["results"]] == [0, 1]
    assert "broken.jpg: not an image" in answer["failed"][0]["error"]
    monkeypatch.undo()
    assert len(list(read_frames(tmp_path / "out/camera0_overlay.mp4"))) == 26


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_under_nohup_a_lost_connection_changes_nothing(
    run: Run, segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def lost(*_: object) -> None:
        signal.raise_signal(signal.SIGHUP)

    picture(50, 40).save(tmp_path / "a.png")
    monkeypatch.setattr("espnetv2.inference.results.check_replaceable", lost)
    done = run("predict", tmp_path / "a.png", "--model", segmentation_file, "--out", tmp_path / "out")
    signal.signal(signal.SIGHUP, before)
    assert done.code == 0, done.stderr


def test_without_opencv_the_extra_is_named(
    run: Run, segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 100)
    monkeypatch.setitem(sys.modules, "cv2", None)
    done = run("predict", tmp_path / "clip.mp4", "--model", segmentation_file)
    assert_one_line_error(done, "pip install '.[video]'")


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout.count(".") == 2
    assert "predict" in run("--help").stdout
