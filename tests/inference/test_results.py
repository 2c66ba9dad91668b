from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.inference.results import ClassificationResult, SegmentationResult
from espnetv2.info import ModelInfo, generic_info
from espnetv2.labels import CITYSCAPES, VOC
from espnetv2.models.registry import model_spec
from espnetv2.ownership import save_png
from helpers import picture


def info(classes: int = 19) -> ModelInfo:
    return generic_info(model_spec("espnetv2_seg_s0_5"), classes, CITYSCAPES if classes == 19 else None)


def result(class_map: np.ndarray, model: ModelInfo | None = None, **more: int) -> SegmentationResult:
    height, width = class_map.shape
    return SegmentationResult("x.jpg", "x", picture(width, height), class_map, model or info(), **more)


def test_the_class_map_is_written_with_the_data_sets_colours(tmp_path: Path) -> None:
    class_map = np.array([[0, 10, 13], [18, 0, 0]], np.uint8)
    files = result(class_map).save(tmp_path / "new")
    assert [path.name for path in files] == ["x.png", "x_overlay.jpg"]
    with Image.open(files[0]) as written:
        assert written.mode == "P"
        assert np.array_equal(np.asarray(written), class_map)
        assert written.convert("RGB").getpixel((1, 0)) == (70, 130, 180)
    with Image.open(files[1]) as overlay:
        assert overlay.size[0] >= 3
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x.png", "x_overlay.jpg"]


def test_results_are_equal_only_to_themselves() -> None:
    one, other = (result(np.zeros((2, 3), np.uint8)) for _ in range(2))
    assert one in [other, one]
    assert one != other
    assert len({one, other}) == 2


def test_only_results_are_written_over(tmp_path: Path) -> None:
    class_map = np.array([[0, 10]], np.uint8)
    target = tmp_path / "x.png"
    picture(2, 1).save(target)
    before = target.read_bytes()
    with pytest.raises(UserError, match=r"x\.png already exists and was not written by this version of the program"):
        result(class_map).save(tmp_path)
    assert target.read_bytes() == before
    target.write_bytes(b"no picture")
    with pytest.raises(UserError, match="was not written by this version of the program"):
        result(class_map).save(tmp_path)
    target.unlink()
    (tmp_path / "x_overlay.jpg").write_bytes(before)
    with pytest.raises(UserError, match=r"x_overlay\.jpg already exists and was not written by this version of the program"):
        result(class_map).save(tmp_path)
    (tmp_path / "x_overlay.jpg").unlink()
    for label_ids in (False, True, False):
        result(class_map).save(tmp_path, label_ids=label_ids)
    classification = ClassificationResult("x.jpg", "x", picture(2, 1), ((0, 1.0),), info())
    for frame in (None, 3):
        (target,) = replace(classification, frame=frame).save(tmp_path)
        assert replace(classification, frame=frame).save(tmp_path) == [target]
    (tmp_path / "x.json").write_text('{"shapes": "of LabelMe"}')
    with pytest.raises(UserError, match=r"x\.json already exists and was not written by this version of the program"):
        classification.save(tmp_path)


def test_a_large_class_map_is_written_over(tmp_path: Path) -> None:
    """Of more pixels than Pillow's own limit."""
    save_png(Image.new("1", (20_000, 10_000)), tmp_path / "x.png")
    result(np.array([[0, 10]], np.uint8)).save(tmp_path)


def test_a_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    classified = ClassificationResult("x.jpg", "x", picture(3, 2), ((0, 1.0),), info())
    for outcome in (result(np.zeros((2, 3), np.uint8)), classified):
        with pytest.raises(UserError, match=r"cannot write to the folder .*: it is a file, or below one"):
            outcome.save(tmp_path / "file")


def test_a_source_is_not_written_over(tmp_path: Path) -> None:
    source = tmp_path / "x.png"
    result(np.zeros((1, 2), np.uint8)).save(tmp_path)
    found = replace(result(np.zeros((1, 2), np.uint8)), source=str(source))
    with pytest.raises(UserError, match="is one of the sources and would be overwritten: choose another folder"):
        found.save(tmp_path)
    named = ClassificationResult(str(tmp_path / "x.json"), "x", picture(2, 1), ((0, 1.0),), info())
    (tmp_path / "x.json").touch()
    with pytest.raises(UserError, match="is one of the sources"):
        named.save(tmp_path)


def test_label_ids_are_what_the_evaluation_server_takes(tmp_path: Path) -> None:
    class_map = np.array([[0, 10, 13], [18, 0, 0]], np.uint8)
    (path, _) = result(class_map).save(tmp_path, label_ids=True)
    with Image.open(path) as written:
        assert written.mode == "L"
        assert np.asarray(written).tolist() == [[7, 23, 26], [33, 7, 7]]
    with pytest.raises(UserError, match="does not predict the Cityscapes classes"):
        result(class_map, generic_info(model_spec("espnetv2_seg_s0_5"), 21, VOC)).save(tmp_path / "no", label_ids=True)
    assert not (tmp_path / "no").exists()


def test_shares_are_sorted_and_only_of_what_occurs() -> None:
    found = result(np.array([[2, 2, 2, 0]], np.uint8))
    assert found.shares == {"building": 0.75, "road": 0.25}
    assert list(found.shares) == ["building", "road"]
    assert found.summary() == "building 75.0%, road 25.0%"
    assert json.loads(json.dumps(found.to_dict()))["classes"] == found.shares


def test_an_overlay_is_the_picture_mixed_with_colours() -> None:
    class_map = np.zeros((400, 640), np.uint8)
    class_map[200:] = 10
    overlay = np.asarray(result(class_map).overlay())
    source = np.asarray(picture(640, 400)).astype(float)
    for row, class_index in ((100, 0), (300, 10)):
        expected = 0.45 * source[row, 320] + 0.55 * np.array(CITYSCAPES.palette[class_index])
        assert np.abs(overlay[row, 320] - expected).max() <= 1.5
    assert overlay.shape[0] > 400


def test_overlays_of_a_video_have_one_size() -> None:
    sizes = {result(np.full((90, 160), index, np.uint8)).overlay(all_classes=True).size for index in (0, 5)}
    assert len(sizes) == 1


def test_many_classes_are_written_with_16_bits(tmp_path: Path) -> None:
    many = generic_info(model_spec("espnetv2_seg_s0_5"), 300)
    class_map = np.array([[0, 299]], np.uint16)
    (path, _) = SegmentationResult("x", "x", picture(2, 1), class_map, many).save(tmp_path)
    with Image.open(path) as written:
        assert np.asarray(written).tolist() == [[0, 299]]


def test_frames_of_a_video_have_names_of_their_own() -> None:
    assert result(np.zeros((2, 2), np.uint8), frame=12).outputs("out")[0] == Path("out/x_000012.png")


def test_a_classification_is_written_as_json(tmp_path: Path) -> None:
    model = generic_info(model_spec("espnetv2_s0_5"), 3)
    found = ClassificationResult("x.jpg", "x", picture(40, 30), ((2, 0.75), (0, 0.25)), model)
    (path,) = found.save(tmp_path)
    written = json.loads(path.read_text())
    assert written["top"][0] == {"class": "class 2", "index": 2, "probability": 0.75}
    assert (written["width"], written["height"]) == (40, 30)
    assert found.summary() == "class 2 75.0%, class 0 25.0%"
    assert found.overlay().size == (40, 30)


def test_a_probability_that_is_not_known_is_not_told() -> None:
    model = generic_info(model_spec("espnetv2_s0_5"), 3)
    found = ClassificationResult("x.jpg", "x", picture(40, 30), ((2, math.nan),), model)
    assert found.summary() == "class 2"
    assert found.to_dict()["top"] == [{"class": "class 2", "index": 2, "probability": None}]
    assert found.overlay().tobytes() != picture(40, 30).tobytes()
