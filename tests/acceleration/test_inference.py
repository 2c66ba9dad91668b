from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import espnetv2
from espnetv2.acceleration import compiler
from espnetv2.acceleration.plans.networks import build_plan
from espnetv2.acceleration.plans.plan import Plan
from espnetv2.acceleration.training import accelerate_training
from espnetv2.errors import UserError
from espnetv2.images import read_picture
from espnetv2.labels import CITYSCAPES
from espnetv2.models.classification import ClassificationModel
from espnetv2.models.decoders.pyramid import PyramidDecoder
from espnetv2.models.segmentation import SegmentationModel
from espnetv2.weights.catalogue import released
from espnetv2.weights.download import is_local
from helpers import SAMPLE
from networks import exactly, farthest, trained_like

WIDTHS = ("0_5", "1_0", "1_25", "1_5", "2_0")
NAMES = [f"espnetv2_s{width}" for width in (*WIDTHS, "1_75")] + [f"espnetv2_seg_s{width}" for width in WIDTHS]


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_the_networks_own(name: str) -> None:
    model = trained_like(name)
    fast = espnetv2.accelerate(model)
    assert fast.reason is None
    for shape in ((1, 64, 96), (2, 61, 83), (1, 7, 5), (1, 1, 1), (3, 33, 1)):
        image = torch.randn(shape[0], 3, *shape[1:])
        wanted = exactly(model, image)
        found = fast(image)
        assert found.shape == wanted.shape
        assert farthest(found, wanted) < 1e-5


@pytest.mark.parametrize("name", ["espnetv2_seg_s0_5", "espnetv2_seg_s1_25", "espnetv2_s0_5"])
def test_any_memory_layout(name: str) -> None:
    model = trained_like(name)
    fast = espnetv2.accelerate(model)
    image = torch.randn(2, 3, 40, 56)
    wanted = fast(image)
    wide = torch.randn(2, 5, 80, 112)
    wide[:, 1:4, ::2, 1::2] = image
    turned = image.transpose(2, 3).contiguous().transpose(2, 3)
    for same in (image.contiguous(memory_format=torch.channels_last), wide[:, 1:4, ::2, 1::2], turned, image.flip(3).flip(3)):
        assert torch.equal(fast(same), wanted)
    assert farthest(fast(image[:1].expand(4, -1, -1, -1)), exactly(model, image[:1]).expand(4, *wanted.shape[1:])) < 1e-5


def test_class_maps() -> None:
    model = trained_like("espnetv2_seg_s0_5", 20)
    image = torch.randn(2, 3, 61, 83)
    found = espnetv2.accelerate(model, output="classes")(image)
    assert found.dtype == torch.uint8
    assert torch.equal(found.long(), exactly(model, image).argmax(1))
    model.info = espnetv2.accelerate(model).info
    picks = espnetv2.accelerate(trained_like("espnetv2_s0_5"), output="classes")(image)
    assert torch.equal(picks, exactly(trained_like("espnetv2_s0_5"), image).argmax(1))


def test_an_output_that_is_no_class_never_wins(segmentation_file: Path) -> None:
    model = espnetv2.create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    assert model.num_classes == 20
    with torch.no_grad():
        model.get_parameter("decoder.pool1.expand.bias")[19] = 1e6
    image = torch.randn(1, 3, 64, 64)
    found = espnetv2.accelerate(model, output="classes")(image)
    assert int(found.max()) < 19
    assert torch.equal(found.long(), exactly(model, image)[:, :19].argmax(1))


def test_released_weights_on_a_picture(official_weights: Path) -> None:
    entries = [entry for entry in released() if is_local(entry, official_weights)]
    tried = [entry for entry in entries if "psp" not in entry.model]
    assert tried
    picture = read_picture(SAMPLE)
    for entry in tried:
        model = espnetv2.create_model(entry.name, weights_dir=official_weights)
        assert model.info is not None
        image = torch.from_numpy(model.info.preprocessing.resized(192, 320)(picture))[None]
        with torch.no_grad():
            wanted = model(image)
        assert farthest(espnetv2.accelerate(model)(image), wanted) < 1e-4
        if model.info.task == "segmentation":
            classes = len(CITYSCAPES.classes) if "cityscapes" in entry.tag else model.num_classes
            agreement = espnetv2.accelerate(model, output="classes")(image) == wanted[:, :classes].argmax(1)
            assert float(agreement.float().mean()) >= 0.9999


def test_it_is_a_snapshot_and_takes_new_weights_when_given() -> None:
    model = trained_like("espnetv2_s0_5")
    fast = espnetv2.accelerate(model)
    image = torch.randn(1, 3, 32, 32)
    before = fast(image)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert torch.equal(fast(image), before)
    # Directly, or into what it is a part of.
    fast.load_state_dict({f"plain.{name}": value for name, value in model.state_dict().items()})
    assert farthest(fast(image), exactly(model, image)) < 1e-5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.95)
    torch.nn.Sequential(fast).load_state_dict({f"0.plain.{name}": value for name, value in model.state_dict().items()})
    assert farthest(fast(image), exactly(model, image)) < 1e-5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    state = model.state_dict()
    fast.load_state_dict(state)
    assert list(state) == list(model.state_dict())
    assert farthest(fast(image), exactly(model, image)) < 1e-5
    copied = copy.deepcopy(fast)
    wanted = fast(image)
    del fast
    assert torch.equal(copied(image), wanted)


def test_a_new_last_layer() -> None:
    classifier = trained_like("espnetv2_s0_5", 1000)
    assert isinstance(classifier, ClassificationModel)
    classifier.classifier = nn.Linear(classifier.classifier.in_features, 10, bias=False)
    segmenter = trained_like("espnetv2_seg_s0_5")
    assert isinstance(segmenter, SegmentationModel)
    assert isinstance(segmenter.decoder, PyramidDecoder)
    segmenter.decoder.pool1.expand = nn.Conv2d(10, 5, 1)
    image = torch.randn(2, 3, 40, 50)
    for model in (classifier, segmenter):
        found = espnetv2.accelerate(model)(image)
        assert farthest(found, exactly(model, image)) < 1e-5
        assert torch.equal(espnetv2.accelerate(model, output="classes")(image).long(), found.argmax(1))
    segmenter.encoder.level1.bn = nn.BatchNorm2d(16, affine=False).eval()
    other = espnetv2.accelerate(segmenter)
    assert other.reason is not None
    with torch.no_grad():
        assert torch.equal(other(image), segmenter(image))


def test_more_classes_than_a_byte_holds() -> None:
    model = trained_like("espnetv2_seg_s0_5")
    model.get_submodule("decoder.pool1").expand = nn.Conv2d(10, 300, 1)
    fast, image = espnetv2.accelerate(model.eval(), output="classes"), torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(fast(image).long(), model(image).argmax(1))


def test_a_network_that_was_trained_with_kernels() -> None:
    model = trained_like("espnetv2_seg_s0_5")
    accelerate_training(model)
    fast, image = espnetv2.accelerate(model), torch.randn(1, 3, 40, 50)
    assert fast.reason is None
    assert not any("training" in type(layer).__module__ for layer in fast.plain.modules())
    assert any("training" in type(layer).__module__ for layer in model.modules())
    with torch.no_grad():
        assert farthest(fast(image), model(image)) < 1e-5


def test_weights_that_arrive_while_a_plan_is_made_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread loads them between the making of a plan and its use."""
    model, image = trained_like("espnetv2_s0_5"), torch.randn(1, 3, 32, 32)
    fast = espnetv2.accelerate(model)

    def interrupted(*arguments: Any) -> Plan:
        made = build_plan(*arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
        fast.load_state_dict({f"plain.{name}": value for name, value in model.state_dict().items()})
        return made

    with monkeypatch.context() as patch:
        patch.setattr("espnetv2.acceleration.inference.build_plan", interrupted)
        fast(image)
    assert farthest(fast(image), exactly(model, image)) < 1e-5


def test_a_pickled_model_asks_the_machine_it_comes_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fast = espnetv2.accelerate(trained_like("espnetv2_s0_5"))
    assert fast.reason is None
    compiler.kernels.cache_clear()
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    try:
        assert "is not installed" in (pickle.loads(pickle.dumps(fast)).reason or "")
    finally:
        compiler.kernels.cache_clear()


def test_many_classes_of_a_classification() -> None:
    fast = espnetv2.accelerate(trained_like("espnetv2_s0_5", 1000), output="classes")
    assert fast.reason is None


def test_training_and_conversion_of_the_result_are_followed() -> None:
    model = trained_like("espnetv2_s0_5")
    image = torch.randn(4, 3, 64, 64)
    fast = espnetv2.accelerate(model)
    fast(image)
    fast.train()(image)
    fast.eval()
    assert isinstance(fast.plain, ClassificationModel)
    assert farthest(fast(image), exactly(fast.plain, image)) < 1e-5
    fast.bfloat16().float()
    assert farthest(fast(image), exactly(fast.plain, image)) < 1e-5


def test_other_defaults_of_torch() -> None:
    model = trained_like("espnetv2_seg_s0_5")
    fast, image = espnetv2.accelerate(model), torch.randn(1, 3, 32, 48)
    wanted = fast(image)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = espnetv2.accelerate(model)(image)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, wanted)


def test_a_long_strip_takes_no_long_preparation() -> None:
    model = trained_like("espnetv2_seg_s0_5")
    plan = espnetv2.accelerate(model).plan(16, 8192)
    assert max(array.nbytes for array in plan.kept if isinstance(array, np.ndarray)) < 10_000_000


def test_few_plans_are_kept() -> None:
    fast = espnetv2.accelerate(trained_like("espnetv2_s0_5"))
    for side in range(20, 40):
        fast(torch.zeros(1, 3, side, side))
    packed, plans = fast._prepared
    assert len(plans) <= 8
    assert len(packed.arenas) == 1


def test_it_may_be_called_from_several_threads() -> None:
    fast = espnetv2.accelerate(trained_like("espnetv2_seg_s0_5"))
    images = [torch.randn(1, 3, 48 + 16 * (i % 2), 64) for i in range(6)]
    wanted = [fast(image) for image in images]
    wrong: list[int] = []

    def ask(index: int) -> None:
        wrong.extend(index for _ in range(5) if not torch.equal(fast(images[index]), wanted[index]))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_more_threads_than_rows() -> None:
    fast = espnetv2.accelerate(trained_like("espnetv2_seg_s0_5"))
    image = torch.randn(1, 3, 9, 12)
    before, wanted = torch.get_num_threads(), fast(image)
    try:
        torch.set_num_threads(7)
        assert torch.equal(fast(image), wanted)
    finally:
        torch.set_num_threads(before)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="training mode"):
        espnetv2.accelerate(espnetv2.create_model("espnetv2_s0_5"))
    with pytest.raises(UserError, match='no output "maps"'):
        espnetv2.accelerate(trained_like("espnetv2_s0_5"), output="maps")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Linear is not a network of this package"):
        espnetv2.accelerate(nn.Linear(1, 1).eval())  # type: ignore[arg-type]
