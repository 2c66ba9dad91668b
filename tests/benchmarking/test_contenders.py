from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from espnetv2.benchmarking.contenders import Contender, find_contender, random_image, settled
from espnetv2.benchmarking.costs import costs
from espnetv2.errors import UserError
from espnetv2.models.registry import MODELS
from helpers import PUBLISHED_COSTS


@pytest.mark.parametrize("name", MODELS)
def test_counts_of_every_model_are_the_published_ones(name: str) -> None:
    contender = find_contender(name)
    found = costs(contender)
    assert contender.size == MODELS[name].reference_size
    assert found["macs"] is not None
    if name in PUBLISHED_COSTS:
        expected_parameters, expected_macs = PUBLISHED_COSTS[name]
        assert found["published_parameters"] == expected_parameters
        assert round(found["macs"] / 1e6, 2 if isinstance(expected_macs, float) else 0) == expected_macs
    head = contender.own and getattr(contender.own, "classifier", None)
    assert found["matrix_macs"] == (head.weight.numel() if isinstance(head, nn.Linear) else 0)


def test_weights_are_float32_whatever_the_file_holds() -> None:
    bundled = costs(find_contender("espnetv2_seg_s0_5.cityscapes_256", (64, 64)))
    random = costs(find_contender("espnetv2_seg_s0_5", (64, 64)))
    assert bundled["weight_bytes"] == random["weight_bytes"]
    assert random["weight_bytes"] is not None
    assert random["parameters"] is not None
    assert 4 * random["parameters"] < random["weight_bytes"] < 6 * random["parameters"]


@pytest.mark.parametrize(("name", "size"), [("model.onnx", 1001), ("model.xml", 1010)])
def test_the_size_of_an_exported_file_is_with_its_parameters_but_not_with_those_of_others(
    name: str, size: int, tmp_path: Path
) -> None:
    for file, count in ((name, 1000), ("model.onnx.data", 1), ("model.bin", 10)):
        (tmp_path / file).write_bytes(bytes(count))
    made = Contender(name, "segmentation", (64, 64), "class map", file=tmp_path / name)
    assert costs(made) == {"weight_bytes": size}


def test_random_parameters_are_the_same_every_time_and_give_a_varied_answer() -> None:
    state = torch.get_rng_state()
    first, second = (settled(find_contender("espnetv2_seg_s0_5", (64, 96))) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    image = random_image(2, (64, 96))
    assert image.shape == (2, 3, 64, 96)
    assert first.graph is not None
    assert second.graph is not None
    with torch.no_grad():
        found = first.graph(image)
        assert torch.equal(found, second.graph(image))
    assert found.shape == (2, 64, 96)
    assert len(found.unique()) > 3


def test_accuracy_is_that_of_the_weights_for_the_size() -> None:
    full = find_contender("espnetv2_seg_s0_5").accuracy
    small = find_contender("espnetv2_seg_s0_5", (256, 512)).accuracy
    bundled = find_contender("espnetv2_seg_s0_5.cityscapes_256").accuracy
    assert full is not None
    assert (full.percent, full.size, full.origin) == (53.9, "1024x512", "published by the authors")
    assert small is not None
    assert (small.size, small.metric) == ("512x256", "miou")
    assert bundled is not None
    assert (bundled.weights, bundled.origin) == ("espnetv2_seg_s0_5.cityscapes_256", "measured by this project")
    assert find_contender("espnetv2_s1_75").accuracy is None


def test_outputs_that_are_no_class_never_win(segmentation_file: Path) -> None:
    contender = find_contender(str(segmentation_file), (32, 64))
    assert contender.graph is not None
    assert contender.trained
    assert contender.graph.winners == 19


def test_rivals_of_torchvision() -> None:
    small = find_contender("torchvision:mobilenet_v3_small")
    assert (small.task, small.size, small.answer) == ("classification", (224, 224), "logits")
    assert costs(small)["parameters"] == 2_542_856
    assert small.accuracy is not None
    assert (small.accuracy.percent, small.accuracy.dataset, small.accuracy.size) == (67.668, "imagenet1k", "224x224")
    lraspp = find_contender("torchvision:lraspp_mobilenet_v3_large")
    assert (lraspp.task, lraspp.answer) == ("segmentation", "class map")
    assert lraspp.graph is not None
    with torch.no_grad():
        assert lraspp.graph(random_image(1, (64, 96))).shape == (1, 64, 96)


def test_rivals_of_other_packages_are_asked_for_random_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create_model(*arguments: object, **options: object) -> nn.Module:
        asked.append((*arguments, options))
        return nn.Conv2d(3, 20, 1)

    timm, smp = ModuleType("timm"), ModuleType("segmentation_models_pytorch")
    timm.__dict__.update(
        create_model=create_model, is_model=lambda name: name == "ghostnet_100", list_models=lambda: ["ghostnet_100"]
    )
    smp.__dict__.update(
        create_model=create_model,
        MODEL_ARCHITECTURES_MAPPING={"unet": None},
        encoders=SimpleNamespace(get_encoder_names=lambda: ["mobilenet_v2"]),
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", smp)
    assert find_contender("timm:ghostnet_100").task == "classification"
    assert find_contender("smp:unet/mobilenet_v2").task == "segmentation"
    assert asked == [
        ("ghostnet_100", {"pretrained": False, "num_classes": 1000}),
        ("unet", {"encoder_name": "mobilenet_v2", "encoder_weights": None, "classes": 20}),
    ]
    for name, message in {
        "timm:ghostnet": 'did you mean "ghostnet_100"',
        "smp:unett/mobilenet_v2": 'did you mean "unet"',
        "smp:unet/mobilenet": 'did you mean "mobilenet_v2"',
    }.items():
        with pytest.raises(UserError, match=message):
            find_contender(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("espnetv2_s0_6", 'did you mean "espnetv2_s0_5"'),
        ("espnetv2_s0_5.imagenet1", 'did you mean "imagenet1k"'),
        ("torchvision:mobilenet_v3_smal", 'did you mean "mobilenet_v3_small"'),
        ("torchvision:ssdlite320_mobilenet_v3_large", "no classifier or segmentation network"),
        ("hub:resnet", "before the colon must be one of timm, torchvision, smp"),
        ("absent.onnx", "no such file"),
        ("absent.pth", "no checkpoint file"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_contender(name)


@pytest.mark.parametrize(("name", "package"), [("timm:a", "timm"), ("smp:a/b", "segmentation-models-pytorch")])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(UserError, match=f"is not installed: pip install {package}"):
        find_contender(name)


def test_a_size_that_is_too_small_is_told_with_the_reason() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 9), nn.Flatten(1))

    class Rival(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

    contender = find_contender("espnetv2_s0_5", (8, 8))
    assert contender.graph is not None
    contender.graph.network = network
    with pytest.raises(UserError, match=r"espnetv2_s0_5 cannot take 8x8: .*[Kk]ernel size"):
        settled(contender)


def test_an_exported_file_needs_no_settling(tmp_path: Path) -> None:
    file = Contender("a.onnx", "segmentation", (8, 8), "logits", file=tmp_path / "a.onnx")
    assert settled(file) is file
