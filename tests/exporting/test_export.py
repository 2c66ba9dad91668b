"""Files are written, say what they are, give what the network gives, and are refused where they cannot."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from PIL import Image

import espnetv2
from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.evaluation.evaluate import evaluate
from espnetv2.exporting import verification
from espnetv2.exporting.export import Exported, export
from espnetv2.factory import create_model
from espnetv2.inference.predictor import Predictor
from espnetv2.inference.results import ClassificationResult, SegmentationResult
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.network import Network
from espnetv2.ownership import save_png
from espnetv2.runtimes.description import Description
from espnetv2.runtimes.runtime import open_runtime
from exports import small_classification
from helpers import SAMPLE, Run, picture
from small_data import make_folders

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


@pytest.fixture
def network(segmentation_file: Path) -> Network:
    return create_model("espnetv2_seg_s0_5", weights=segmentation_file)


@pytest.fixture(scope="module")
def onnx_file(segmentation_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(segmentation_file, tmp_path_factory.mktemp("onnx") / "model.onnx").path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(4):
        noisy = np.clip(np.asarray(picture(64, 32)) + rng.integers(-40, 40, (32, 64, 3)), 0, 255)
        from PIL import Image

        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def class_map(predictor: Predictor, source: Any) -> npt.NDArray[Any]:
    (result,) = predictor(source)
    assert isinstance(result, SegmentationResult)
    return result.class_map


def ranking(predictor: Predictor, source: Any) -> tuple[tuple[int, float], ...]:
    (result,) = predictor(source)
    assert isinstance(result, ClassificationResult)
    return result.top


def written(network: Network, folder: Path, format: str, **options: Any) -> Exported:
    return export(network, folder / f"model{SUFFIXES[format]}", format=format, **options)


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_file_predicts_what_its_checkpoint_predicts(
    format: str, network: Network, segmentation_file: Path, tmp_path: Path
) -> None:
    done = written(network, tmp_path, format)
    assert done.verification is not None
    assert done.verification.agreement >= 0.999
    assert done.verification.difference is not None
    assert done.verification.difference < 1e-4
    assert open_runtime(done.path).description == done.description
    assert done.description.info == network.info
    mine, theirs = (class_map(Predictor(file), picture(90, 50)) for file in (done.path, segmentation_file))
    assert (mine == theirs).mean() > 0.999
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("format", SUFFIXES)
def test_pixels_in_and_classes_out(format: str, network: Network, tmp_path: Path) -> None:
    done = written(network, tmp_path, format, input="uint8", output="classes", size=(48, 80))
    assert done.verification is not None
    assert done.verification.difference is None
    found = open_runtime(done.path)(np.asarray(picture(80, 48))[None])
    assert found.shape == (1, 48, 80)
    assert found.dtype == np.uint8
    assert (class_map(Predictor(done.path), picture(160, 96)) == found[0].repeat(2, 0).repeat(2, 1)).mean() > 0.9


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_any_size_and_batch(format: str, network: Network, segmentation_file: Path, tmp_path: Path) -> None:
    done = written(network, tmp_path, format, dynamic=True, size=(48, 64))
    sources = [picture(90, 50), picture(64, 33), picture(20, 20)]
    for size in ((48, 64), (67, 97)):
        mine = Predictor(done.path, size=size, batch_size=3)(*sources)
        theirs = Predictor(segmentation_file, size=size)(*sources)
        for one, other in zip(mine, theirs, strict=True):
            assert isinstance(one, SegmentationResult)
            assert isinstance(other, SegmentationResult)
            assert (one.class_map == other.class_map).mean() > 0.999
    with pytest.raises(UserError, match="from 48 to 8192"):
        Predictor(done.path, size=(32, 64))


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_half_and_eight_bits(
    format: str, network: Network, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network that has learnt nothing has logits all alike, which eight bits cannot tell apart.
    monkeypatch.setitem(verification.TOLERANCES, "int8", verification.Tolerance(10.0, 0.0, 0.0))
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        folder = tmp_path / precision
        calibrate = pictures if precision == "int8" else None
        done = written(network, folder, format, precision=precision, calibrate=calibrate)
        weights = done.path.with_suffix(".bin") if format == "openvino" else done.path
        sizes[precision] = weights.stat().st_size
        assert done.description.precision == precision
        assert done.verification is not None
        assert done.verification.pictures == (4 if calibrate else 2)
    assert sizes["fp16"] < 0.75 * sizes["fp32"]
    assert sizes["int8"] < 0.75 * sizes["fp32"]


def test_classification(classification_file: Path, tmp_path: Path) -> None:
    network = create_model("espnetv2_s0_5", weights=classification_file)
    wanted = ranking(Predictor(classification_file), picture(80, 70))
    for format in SUFFIXES:
        found = ranking(Predictor(written(network, tmp_path, format).path), picture(80, 70))
        assert [index for index, _ in found] == [index for index, _ in wanted]
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted], rel=1e-3)
    done = written(network, tmp_path / "classes", "onnx", output="classes")
    ((index, probability),) = ranking(Predictor(done.path), picture(80, 70))
    assert index == wanted[0][0]
    assert math.isnan(probability)
    data = open_dataset("imagefolder", make_folders(tmp_path / "data", classes=tuple("abcdefg")), "val")
    # One class is no ranking of five.
    assert evaluate(Predictor(done.path), data).summary().keys() == {"top1"}
    assert evaluate(Predictor(classification_file), data).summary().keys() == {"top1", "top5"}


def test_the_graph_of_one_size_computes_no_shapes(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Shape", "Gather", "GatherND", "BatchNormalization", "PRelu", "ConstantOfShape"}
    described = json.loads({entry.key: entry.value for entry in model.metadata_props}["espnetv2"])
    assert described["info"]["classes"][0] == "road"


def test_a_file_that_gives_something_else_is_not_kept(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espnetv2.exporting import graph

    class Wrong(graph.Normalisation):
        def forward(self, pixels: Any) -> Any:
            return -super().forward(pixels)

    monkeypatch.setattr(graph, "Normalisation", Wrong)
    with pytest.raises(UserError, match=r"does not match the network: .* % of the classes agree"):
        written(network, tmp_path / "out", "onnx", input="uint8")
    assert not (tmp_path / "out").exists()


def test_what_is_no_number_is_not_verified(network: Network) -> None:
    """A runtime that gives NaN for noise alone, which is compared last."""
    assert network.info is not None
    description = Description(info=network.info, format="onnx", version="1")

    class Broken:
        def __init__(self) -> None:
            self.description = description
            self.calls = 0

        def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
            self.calls += 1
            found: npt.NDArray[Any] = network(torch.from_numpy(images)).detach().numpy()
            return found * np.nan if self.calls == 3 else found

    with pytest.raises(UserError, match="logits differ by nan of the largest"):
        verification.verify(network, Broken(), None)


def test_a_near_tie_between_classes_is_no_mistake() -> None:
    network = small_classification()
    assert network.info is not None
    description = Description(info=network.info, format="onnx", version="1", precision="int8")

    class Swapping:
        """Prefers the class of a rank, by a little."""

        def __init__(self, rank: int) -> None:
            self.description = description
            self.rank = rank

        def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
            found: npt.NDArray[Any] = network(torch.from_numpy(images)).detach().numpy()
            found[0, np.argsort(-found[0])[self.rank]] = found.max() + 1e-6
            return found

    assert isinstance(network, ClassificationModel)
    with torch.no_grad():
        network.classifier.weight.mul_(0.0)
        network.classifier.bias.copy_(torch.tensor([0.0, 1.0, 4.9, 0.0, 5.0, 0.0, 0.0]))
    for rank, agreement in ((0, 1.0), (1, 0.0)):
        assert verification.verify(network, Swapping(rank), None).agreement == agreement
    with pytest.raises(UserError, match=r"0\.00 % of the classes agree"):
        verification.verify(network, Swapping(2), None)


def test_a_file_is_replaced_whole_or_not_at_all(network: Network, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"espnetv2, before")
    with pytest.raises(UserError, match="invalid size 9000x16"):
        export(network, target, size=(16, 9000))
    assert target.read_bytes() == b"espnetv2, before"
    written(network, tmp_path, "onnx")
    assert target.stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("model.onnx", {"format": "onxx"}, 'no format "onxx": did you mean "onnx"?'),
        ("model.bin", {}, "ONNX file names end in .onnx"),
        ("model.pt2", {"format": "pt2", "precision": "int8"}, "pt2 files do not support int8"),
        ("model.onnx", {"precision": "int8"}, "set calibrate to a folder of representative images"),
        ("model.onnx", {"precision": "int8", "calibrate": "absent"}, '"absent" is not a folder'),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    name: str, options: dict[str, Any], reason: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        export(network, Path("new") / name, **options)
    assert reason in str(error.value)
    assert not (tmp_path / "new").exists()


def test_calibration_needs_pictures(network: Network, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images below"):
        export(network, tmp_path / "out/model.onnx", precision="int8", calibrate=tmp_path)
    save_png(Image.new("L", (8, 8)), tmp_path / "result.png")
    with pytest.raises(UserError, match="no images below"):
        export(network, tmp_path / "out/model.onnx", precision="int8", calibrate=tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        export(network, tmp_path / "out/model.onnx", precision="int8", calibrate=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    with pytest.raises(UserError, match=r"writing openvino files requires the package openvino.*\.\[export\]"):
        export(network, tmp_path / "model.xml", format="openvino")


def test_a_network_of_another_precision_is_exported_as_it_is(network: Network, tmp_path: Path) -> None:
    other = copy.deepcopy(network).half()
    assert written(other, tmp_path, "onnx").description.precision == "fp32"
    assert next(other.parameters()).dtype == torch.float16


def test_a_checkpoint_may_be_a_path(onnx_file: Path, network: Network) -> None:
    assert open_runtime(onnx_file).description.info == network.info


@pytest.mark.parametrize(
    ("size", "dynamic", "bounds"), [((0, 10), False, "1 to 8192"), ((16, 96), True, "48 to 8192"), (512, False, "1 to 8192")]
)
def test_a_size_that_is_none(network: Network, tmp_path: Path, size: Any, dynamic: bool, bounds: str) -> None:
    with pytest.raises(UserError, match=f"invalid size .* from {bounds}"):
        export(network, tmp_path / "model.onnx", size=size, dynamic=dynamic)


def test_weights_whose_own_size_is_too_small_for_any_size(network: Network, tmp_path: Path) -> None:
    assert network.info is not None
    network.info = network.info.model_copy(update={"preprocessing": network.info.preprocessing.resized(32, 48)})
    with pytest.raises(UserError, match=r"invalid size 48x32: .* from 48 to 8192"):
        export(network, tmp_path / "model.onnx", dynamic=True)


def info_with(**changes: Any) -> Any:
    def change(described: Any) -> None:
        described["info"] |= changes

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described.update(input="uint8"),
        lambda described: described.update(output="classes"),
        info_with(outputs=30, classes=[str(number) for number in range(30)], palette=[[0, 0, 0]] * 30),
        info_with(model="espnetv2_s0_5"),
        lambda described: described["info"]["preprocessing"].update(height=48),
    ],
    ids=["input", "output", "classes", "task", "size"],
)
def test_a_file_that_is_not_what_it_says_is_one_line(onnx_file: Path, tmp_path: Path, run: Run, change: Any) -> None:
    path = tmp_path / "model.onnx"
    model = onnx.load(onnx_file)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "espnetv2")
    described = json.loads(entry.value)
    change(described)
    entry.value = json.dumps(described)
    onnx.save(model, path)
    done = run("predict", SAMPLE, "--model", path, "--out", tmp_path / "out")
    assert done.code == 2
    assert re.search(r"model\.onnx (does not match its description|cannot be run) \(.*\): export it again", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_class_name_that_xml_does_not_allow(tmp_path: Path) -> None:
    network = small_classification()
    assert network.info is not None
    names = ("\ufffe", *network.info.classes[1:])
    network.info = network.info.model_copy(update={"classes": names})
    assert open_runtime(written(network, tmp_path, "openvino").path).description.info.classes == names


def test_several_threads_may_share_an_openvino_file(network: Network, tmp_path: Path) -> None:
    predictor = Predictor(written(network, tmp_path, "openvino").path)
    pictures = [picture(60 + number, 40) for number in range(24)]
    alone = [class_map(predictor, source) for source in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda source: class_map(predictor, source), pictures))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_untrained_networks_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained weights"):
        espnetv2.export(create_model("espnetv2_s0_5"), tmp_path / "model.onnx")
