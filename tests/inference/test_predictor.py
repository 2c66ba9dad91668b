from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from espnetv2 import Predictor, create_model
from espnetv2.acceleration.inference import accelerate as accelerated
from espnetv2.device import choose_device
from espnetv2.errors import UserError
from espnetv2.inference.results import ClassificationResult, SegmentationResult
from espnetv2.labels import CITYSCAPES
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.models.segmentation import SegmentationModel
from helpers import SHARED, picture


def test_a_class_map_has_the_size_of_its_source(segmentation_file: Path) -> None:
    predictor = Predictor(segmentation_file)
    pictures = [picture(*size) for size in ((64, 32), (31, 57), (1, 1), (900, 4))]
    results = list(predictor(*pictures))
    for source, result in zip(pictures, results, strict=True):
        assert isinstance(result, SegmentationResult)
        assert result.class_map.shape == (source.height, source.width)
        assert result.class_map.dtype == np.uint8
        assert result.class_map.max() < 19
        assert sum(result.shares.values()) == pytest.approx(1)


def test_it_is_what_the_model_says(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    source = picture(64, 32)
    (result,) = Predictor(model)(source)
    assert isinstance(result, SegmentationResult)
    pixels = torch.from_numpy(np.asarray(source).transpose(2, 0, 1) / 255).float()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = model(((pixels - mean[:, None, None]) / std[:, None, None])[None])
    assert np.mean(result.class_map == logits[0, :19].argmax(0).numpy()) > 0.999


def test_batches_give_the_same_answers(segmentation_file: Path) -> None:
    pictures = [picture(40 + index, 30) for index in range(5)]
    one = list(Predictor(segmentation_file, batch_size=1)(*pictures))
    three = list(Predictor(segmentation_file, batch_size=3)(*pictures))
    for first, second in zip(one, three, strict=True):
        assert isinstance(first, SegmentationResult)
        assert isinstance(second, SegmentationResult)
        assert first.stem == second.stem
        assert np.mean(first.class_map == second.class_map) > 0.999


def test_classification_names_the_most_probable_classes(classification_file: Path) -> None:
    (result,) = Predictor("espnetv2_s0_5", weights=classification_file, top_k=3)(picture(50, 80))
    assert isinstance(result, ClassificationResult)
    assert len(result.top) == 3
    probabilities = [probability for _, probability in result.top]
    assert probabilities == sorted(probabilities, reverse=True)
    assert result.best[0] == f"class {result.top[0][0]}"


def test_pictures_without_a_name_are_numbered_over_all_calls(segmentation_file: Path) -> None:
    predictor = Predictor(segmentation_file)
    stems = [result.stem for _ in range(2) for result in predictor(np.zeros((3, 4, 3), np.uint8), picture(4, 3))]
    assert stems == ["image0", "image1", "image2", "image3"]


def test_another_input_size(segmentation_file: Path) -> None:
    predictor = Predictor(segmentation_file, size=(48, 80))
    assert (predictor.preprocessing.height, predictor.preprocessing.width) == (48, 80)
    (result,) = predictor(picture(33, 21))
    assert isinstance(result, SegmentationResult)
    assert result.class_map.shape == (21, 33)


def test_a_broken_picture_is_raised_or_told(segmentation_file: Path, tmp_path: Path) -> None:
    for name in ("a", "c"):
        picture(8, 8).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_text("broken")
    predictor = Predictor(segmentation_file)
    results = predictor(tmp_path)
    assert next(results).stem == "a"
    with pytest.raises(UserError, match=r"b.png: not an image"):
        next(results)
    told: list[str] = []
    kept = predictor(tmp_path, on_error=lambda name, error: told.append(f"{name} {error}"))
    assert [result.stem for result in kept] == ["a", "c"]
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'b.png'} ")


def test_the_model_that_is_given_stays_as_it_is(segmentation_file: Path) -> None:
    network = create_model("espnetv2_seg_s0_5", weights=segmentation_file).train()
    for accelerate in (False, True):
        next(iter(Predictor(network, accelerate=accelerate)(picture(40, 30))))
        assert all(module.training for module in network.modules())


def test_a_wrapped_model(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    before = copy.deepcopy(model.state_dict())
    wrapped: list[Any] = [model, torch.compile(model), nn.DataParallel(model)]
    results = [next(iter(Predictor(given)(picture(40, 30)))).to_dict() for given in wrapped]
    assert results[0] == results[1] == results[2]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_training_cannot_predict() -> None:
    with pytest.raises(UserError, match="has no trained weights"):
        Predictor(create_model("espnetv2_s0_5"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 10)}, "invalid size 10x0"),
        ({"size": 512}, "invalid size 512: height and width"),
        ({"size": (32.0, 64)}, r"invalid size 64x32.0: height and width must be whole numbers \(int\) from 1"),
        ({"top_k": 0}, "top_k is 0: it must be a whole number, at least 1"),
        ({"top_k": -2}, "top_k is -2"),
        ({"batch_size": 0}, "batch_size is 0: it must be a whole number"),
        ({"top_k": 1.5}, "top_k is 1.5: it must be a whole number"),
    ],
)
def test_arguments_that_are_none(segmentation_file: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Predictor(segmentation_file, **options)


def test_models_that_cannot_be_used(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (torch.nn.Conv2d(3, 3, 1), {}, "Conv2d is not a network of this package"),
        (None, {}, "NoneType is not a network of this package"),
        (accelerated(model), {}, "has been accelerated, for inference only: give the original model"),
        (model, {"weights": "camvid"}, "this model already has its weights: leave out weights"),
    ]
    for given, options, message in cases:
        with pytest.raises(UserError, match=message):
            Predictor(given, **options)


def test_a_replaced_last_layer_is_no_longer_described(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    assert isinstance(model, SegmentationModel)
    assert isinstance(model.decoder, PyramidDecoder)
    model.decoder.pool1.expand = torch.nn.Conv2d(10, 5, 1)
    with pytest.raises(
        UserError, match=r"espnetv2_seg_s0_5 with 5 outputs, but is described as espnetv2_seg_s0_5 with 20: give the"
    ):
        Predictor(model)
    model.decoder.pool1.add_module("expand", torch.nn.Sequential(torch.nn.Conv2d(10, 20, 1)))
    with pytest.raises(UserError, match=r'no parameter "decoder.pool1.expand.weight", so its layers have been modified'):
        Predictor(model)


def test_a_network_in_double_precision(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    image = picture(64, 32)
    (single,), (double,) = (list(Predictor(network)(image)) for network in (model, copy.deepcopy(model).double()))
    assert isinstance(single, SegmentationResult)
    assert isinstance(double, SegmentationResult)
    assert (single.class_map == double.class_map).mean() > 0.999


def test_a_list_of_sources(segmentation_file: Path, tmp_path: Path) -> None:
    predictor = Predictor(segmentation_file)
    image = picture(64, 32)
    image.save(tmp_path / "a.png")
    # A list of one type is what a type checker knows to be no list of another.
    paths: list[Path] = sorted(tmp_path.glob("*.png"))
    assert [result.stem for result in predictor(paths)] == ["a"]
    results = [*predictor([image, image]), *predictor(image, (image,))]
    assert [result.source for result in results] == ["image1", "image2", "image3", "image4"]


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cpu:1", "cuda:x"):
        with pytest.raises(UserError, match=f'no device "{name}": choose auto, cpu, cuda, cuda:N or mps'):
            choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r'no device "cuda" \(.*\): choose auto or cpu'):
            choose_device("cuda")
    else:
        with pytest.raises(UserError, match="counted from cuda:0"):
            choose_device("cuda:99")


@pytest.mark.parametrize("name", ["espnetv2_seg_s2_0.cityscapes_1024x512", "espnetv2_seg_psp_s1_0.cityscapes_1024x512"])
def test_official_weights_understand_real_streets(name: str, official_weights: Path) -> None:
    """Agreement with the labels of frames that the network has not seen. Wrong preprocessing gives less than half of it."""
    frames = sorted((SHARED / "cityscapes256/leftImg8bit/val/munster").glob("*.jpg"))[:4]
    if not frames:
        pytest.skip("no Cityscapes frames beside the weights")
    predictor = Predictor(name, weights_dir=official_weights)
    agreement = []
    for frame, result in zip(frames, predictor(*frames), strict=True):
        assert isinstance(result, SegmentationResult)
        name = frame.name.replace("leftImg8bit.jpg", "gtFine_labelTrainIds.png")
        labels = np.asarray(Image.open(SHARED / "cityscapes256/gtFine/val/munster" / name))
        labelled = labels < len(CITYSCAPES.classes)
        agreement.append(np.mean(result.class_map[labelled] == labels[labelled]))
    assert np.mean(agreement) > 0.7
