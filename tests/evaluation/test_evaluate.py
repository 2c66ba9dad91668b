from __future__ import annotations

import errno
import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from espnetv2 import Predictor, create_model
from espnetv2.data.dataset import ClassificationData
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.evaluation import evaluate as evaluate_module
from espnetv2.evaluation import plots
from espnetv2.evaluation.evaluate import check_classes, evaluate, evaluate_on_devices
from espnetv2.exporting.export import export
from espnetv2.inference.options import PredictorOptions
from espnetv2.inference.results import SegmentationResult
from espnetv2.info import ModelInfo, generic_info
from espnetv2.labels import Labels, imagenet_labels
from espnetv2.metrics import SegmentationMetrics
from espnetv2.models.registry import model_spec
from espnetv2.preprocessing import Preprocessing
from espnetv2.weights import save_checkpoint
from helpers import Run, end_process
from small_data import SHAPE_CLASSES, SHAPE_COLOURS, make_folders, make_shapes


@pytest.fixture(scope="module")
def shapes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random parameters for the three classes of the shapes."""
    torch.manual_seed(0)
    info = ModelInfo(
        model="espnetv2_seg_s0_5",
        outputs=3,
        classes=SHAPE_CLASSES,
        palette=SHAPE_COLOURS,
        preprocessing=Preprocessing(height=32, width=48),
    )
    path = tmp_path_factory.mktemp("weights") / "shapes.safetensors"
    save_checkpoint(create_model(info.model, num_classes=3).state_dict(), info, path)
    return path


def test_it_measures_what_predict_gives(shapes_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path)
    predictor = Predictor(shapes_file)
    data = open_dataset("masks", tmp_path, "val")
    expected = SegmentationMetrics(SHAPE_CLASSES)
    for index, result in enumerate(predictor(tmp_path / "images" / "val")):
        assert isinstance(result, SegmentationResult)
        mask = np.asarray(Image.open(tmp_path / "masks/val" / f"{index}.png"))
        labels = (mask[..., 0] > 0) + 2 * (mask[..., 1] > 0)
        expected.update(labels, result.class_map)
    seen = []
    assert evaluate(predictor, data, lambda: seen.append(1)).report() == expected.report()
    assert len(seen) == 6


def test_labels_are_compared_at_their_own_resolution(shapes_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path)
    for path in (tmp_path / "masks/val").iterdir():
        with Image.open(path) as mask:
            mask.resize((96, 64), Image.Resampling.NEAREST).save(path)
    metrics = evaluate(Predictor(shapes_file), open_dataset("masks", tmp_path, "val", mask_scale=2))
    assert metrics.counts.sum() == 6 * 96 * 64


def test_a_mask_of_another_size_is_told(run: Run, shapes_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "data")
    Image.new("RGB", (24, 48)).save(tmp_path / "data/masks/val/3.png")
    done = run("evaluate", shapes_file, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert done.code == 2
    assert "3.png is 24x48, but its image is 48x32: make them the same size" in done.stderr
    Image.new("RGB", (48, 32)).save(tmp_path / "data/masks/val/3.png")
    done = run("evaluate", shapes_file, "--data", tmp_path / "data", "--out", tmp_path / "out", "--mask-scale", 0.5)
    assert "48x32, but its image is 48x32: with this mask scale, it must be 24x16" in done.stderr


def test_what_cannot_be_compared_leaves_nothing(run: Run, shapes_file: Path, tmp_path: Path) -> None:
    make_folders(tmp_path / "c")
    done = run("evaluate", shapes_file, "--data", tmp_path / "c", "--out", tmp_path / "out")
    assert done.code == 2
    assert not (tmp_path / "out").exists()


def test_plots_that_cannot_be_written_do_not_cost_the_figures(
    run: Run, shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(plots, "plot_confusion", full)
    done = run("evaluate", shapes_file, "--data", make_shapes(tmp_path / "s"), "--out", tmp_path / "out")
    assert done.code == 0
    assert "mean IoU" in done.stdout
    assert "no plots: [Errno 28] No space left on device" in done.stderr


def test_only_its_own_plots_are_replaced(run: Run, shapes_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "s", count=1)
    arguments = ("evaluate", shapes_file, "--data", tmp_path / "s", "--out", tmp_path / "out")
    assert run(*arguments).code == run(*arguments).code == 0
    Image.new("RGB", (4, 4)).save(tmp_path / "out/per_class.png")
    done = run(*arguments)
    assert done.code == 2
    assert "per_class.png already exists and was not written by this version of the program: remove it" in done.stderr
    with Image.open(tmp_path / "out/per_class.png") as kept:
        assert kept.size == (4, 4)


def test_several_processes_give_the_same_figures(shapes_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, count=5)
    data = open_dataset("masks", tmp_path, "val")
    seen = []
    together = evaluate_on_devices(PredictorOptions(str(shapes_file), device="cpu"), data, 2, lambda: seen.append(1))
    assert together.report() == evaluate(Predictor(shapes_file, device="cpu"), data).report()
    assert len(seen) == 5
    with pytest.raises(UserError, match=r"devices 999: this machine has .*: choose at most that many"):
        evaluate_on_devices(PredictorOptions(str(shapes_file), device="cpu"), data, 999)


def test_an_exported_file_is_shared_out_and_needs_no_device_named(shapes_file: Path, tmp_path: Path) -> None:
    file = export(shapes_file, tmp_path / "model.onnx").path
    data = open_dataset("masks", make_shapes(tmp_path / "data", count=5), "val")
    together = evaluate_on_devices(PredictorOptions(str(file)), data, 2)
    assert together.report() == evaluate(Predictor(file), data).report()


def test_a_mistake_in_one_process_is_told_once(shapes_file: Path, tmp_path: Path, run: Run) -> None:
    make_shapes(tmp_path / "data")
    (tmp_path / "data/images/val/3.png").write_bytes(b"damaged")
    arguments = ("evaluate", shapes_file, "--data", tmp_path / "data", "--device", "cpu", "--devices", 2)
    done = run(*arguments, "--out", tmp_path / "out")
    assert done.code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "3.png" in done.stderr
    with pytest.raises(UserError, match="device cuda:1 is a single device: leave out its number, or devices"):
        evaluate_on_devices(
            PredictorOptions(str(shapes_file), device="cuda:1"), open_dataset("masks", tmp_path / "data", "val"), 2
        )


def test_after_an_interruption_no_process_goes_on(shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Future[object]] = []

    def interrupted(futures: list[Future[object]], *_: object) -> None:
        jobs.extend(futures)
        raise KeyboardInterrupt

    data = open_dataset("masks", make_shapes(tmp_path), "val")
    monkeypatch.setattr(evaluate_module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_on_devices(PredictorOptions(str(shapes_file), device="cpu"), data, 1)
    assert isinstance(jobs[0].exception(), UserError)


def test_a_process_that_is_killed_is_told(shapes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset("masks", make_shapes(tmp_path), "val")
    monkeypatch.setattr(evaluate_module, "_evaluate_in_process", end_process)
    with pytest.raises(UserError, match="one of the processes was killed"):
        evaluate_on_devices(PredictorOptions(str(shapes_file), device="cpu"), data, 1)


def test_folders_of_imagenet_are_numbered() -> None:
    info = generic_info(model_spec("espnetv2_s0_5"), 1000, imagenet_labels())
    for names, fits in (
        (tuple(f"n{number:08d}" for number in range(1000)), True),
        (tuple(sorted(info.classes)), False),
        (info.classes, True),
    ):
        data = ClassificationData("imagefolder", "val", Labels(names, ()), ())
        if fits:
            check_classes(info, data)
        else:
            with pytest.raises(UserError, match="but the data set calls it"):
                check_classes(info, data)


def test_classes_must_agree(shapes_file: Path, segmentation_file: Path, tmp_path: Path) -> None:
    data = open_dataset("masks", make_shapes(tmp_path), "val")
    with pytest.raises(UserError, match="has 19 classes, but the data set has 3"):
        evaluate(Predictor(segmentation_file), data)
    text = (tmp_path / "dataset.yaml").read_text()
    (tmp_path / "dataset.yaml").write_text(text.replace("disc", "ring"))
    with pytest.raises(UserError, match='calls class 2 "disc", but the data set calls it "ring"'):
        evaluate(Predictor(shapes_file), open_dataset("masks", tmp_path, "val"))
    folders = open_dataset("auto", make_folders(tmp_path / "c"), "val")
    with pytest.raises(UserError, match="is for segmentation, but the data set is for classification"):
        evaluate(Predictor(shapes_file), folders)


def test_the_command(run: Run, shapes_file: Path, classification_file: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "s")
    done = run("evaluate", shapes_file, "--data", tmp_path / "s", "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {"miou", "pixel_accuracy", "per_class_iou", "images"} <= answer.keys()
    assert answer["images"] == 6
    assert list(answer["per_class_iou"]) == list(SHAPE_CLASSES)
    for plot in answer["plots"]:
        with Image.open(plot) as image:
            assert image.format == "PNG"
    make_folders(tmp_path / "c", classes=tuple("abcdefg"))
    done = run(
        "evaluate", classification_file, "--data", tmp_path / "c", "--out", tmp_path / "out", "--device", "cpu", "--json"
    )
    assert done.code == 0, done.stderr
    assert {"top1", "top5", "images"} <= json.loads(done.stdout).keys()
    assert "mean IoU" in run("evaluate", shapes_file, "--data", tmp_path / "s", "--out", tmp_path / "out").stdout
    assert run("evaluate", shapes_file, "--data", tmp_path / "s", "--split", "test").code == 2
