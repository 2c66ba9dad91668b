from __future__ import annotations

import json
from pathlib import Path

from helpers import Run, picture


def test_export_and_predict_by_the_same_words(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    words = ("export", "espnetv2_seg_s0_5", "--weights", segmentation_file, "--format", "onnx", "--size", "96x64")
    done = run(*words, "--out", target, "--json")
    assert done.code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["size"] == "96x64"
    assert answer["bytes"] == target.stat().st_size
    assert answer["agreement"] > 0.999
    shown = run(*words, "--out", target)
    assert "96x64" in shown.stdout
    assert "% of the classes agree" in shown.stdout
    picture(50, 40).save(tmp_path / "photo.png")
    predicted = run("predict", tmp_path / "photo.png", "--model", target, "--out", tmp_path / "out")
    assert predicted.code == 0, predicted.stderr


def test_mistakes_are_one_line(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    words = ("export", "espnetv2_seg_s0_5", "--weights", segmentation_file, "--out", tmp_path / "new/model.onnx")
    for more, reason in (
        (("--format", "onxx"), "did you mean"),
        (("--format", "openvino"), "end in .xml"),
        (("--format", "onnx", "--precision", "int8"), "set calibrate"),
        (("--format", "onnx", "--size", "9"), "is not a size"),
    ):
        done = run(*words, *more)
        assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
        assert reason in done.stderr
    assert not (tmp_path / "new").exists()


def test_what_a_file_does_not_take(run: Run, segmentation_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    assert run("export", "espnetv2_seg_s0_5", "--weights", segmentation_file, "--format", "onnx", "--out", target).code == 0
    picture(50, 40).save(tmp_path / "photo.png")
    for more, reason in (
        (("--size", "96x64"), "was exported for 64x32 only"),
        (("--batch", "2"), "one image at a time"),
        (("--device", "cuda"), "whose runtime chooses the device"),
        (("--weights", segmentation_file), "already contains its weights"),
        (("--backend", "eager"), "its own runtime"),
    ):
        done = run("predict", tmp_path / "photo.png", "--model", target, "--out", tmp_path / "out", *more)
        assert (done.code, done.stderr.count("\n")) == (2, 1), done.stderr
        assert reason in done.stderr
