from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import espnetv2
from espnetv2.errors import UserError
from espnetv2.factory import create_model, find_network
from espnetv2.labels import CITYSCAPES
from espnetv2.weights import save_checkpoint
from helpers import picture


def test_the_public_names_are_there() -> None:
    for name in espnetv2.__all__:
        assert getattr(espnetv2, name) is not None
    assert set(dir(espnetv2)) == set(espnetv2.__all__)
    name = "absent"
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        getattr(espnetv2, name)


def test_without_weights_a_model_is_in_training_mode_and_has_no_info() -> None:
    model = create_model("espnetv2_s0_5", num_classes=10)
    assert model.training
    assert model.info is None
    assert model.num_classes == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weights": {"a": 1}}, "weights is a dict: give a tag or a file"), ({"num_classes": True}, "num_classes is True")],
)
def test_arguments_of_the_wrong_type(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model("espnetv2_s0_5", **options)


def test_a_file_called_like_its_model_is_a_file(
    segmentation_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(segmentation_file, "espnetv2_seg_s0_5.safetensors")
    network = find_network("espnetv2_seg_s0_5.safetensors", None, None)
    assert network.info is not None
    assert network.info.preprocessing.width == 64


def test_with_weights_it_is_in_evaluation_mode(segmentation_file: Path) -> None:
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    assert not model.training
    assert model.info is not None
    assert model.num_classes == 20


def test_by_tag_from_a_folder(official_weights: Path) -> None:
    by_tag = create_model("espnetv2_seg_s0_5", weights="cityscapes_1024x512", weights_dir=official_weights)
    by_name = create_model("espnetv2_seg_s0_5.cityscapes_1024x512", weights_dir=official_weights)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(by_tag(image), by_name(image))


def test_other_classes_from_trained_weights(segmentation_file: Path, tmp_path: Path) -> None:
    before = create_model("espnetv2_seg_s0_5", weights=segmentation_file)
    model = create_model("espnetv2_seg_s0_5", weights=segmentation_file, classes=["sky", "dune"])
    assert model.training
    # As wide within as before, so that all but the last layer is copied.
    assert model.num_classes == 20
    assert model.info is not None
    assert model.info.classes == ("sky", "dune")
    assert model.info.preprocessing.width == 64
    old, new = before.state_dict(), model.state_dict()
    differing = [name for name in old if not torch.equal(old[name], new[name])]
    # The bias is 0 there.
    assert differing == ["decoder.pool1.expand.weight"]
    assert torch.equal(new[differing[0]][0], old[differing[0]][CITYSCAPES.classes.index("sky")])
    assert not new[differing[0]][1:].any()
    # After a training loop of one's own it is saved, read and used like any other.
    save_checkpoint(new, model.info, tmp_path / "own.safetensors")
    (result,) = espnetv2.Predictor(tmp_path / "own.safetensors")(picture(64, 32))
    assert result.info.classes == ("sky", "dune")


def test_classes_without_weights_or_with_those_of_a_classifier(tmp_path: Path) -> None:
    classifier = create_model("espnetv2_s0_5", classes=("cat", "dog", "newt"))
    assert classifier.num_classes == 3
    assert classifier.info is not None
    assert (classifier.info.preprocessing.width, classifier.info.palette) == (224, ())
    save_checkpoint(classifier.state_dict(), classifier.info, tmp_path / "animals.safetensors")
    segmenter = create_model("espnetv2_seg_s0_5", weights=tmp_path / "animals.safetensors", classes=["cat"])
    assert segmenter.info is not None
    assert segmenter.info.preprocessing.width == 1024
    first = "encoder.level1.conv.weight"
    assert torch.equal(segmenter.state_dict()[first], classifier.state_dict()[first])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, r"classes are \[\]: give a list of at least one name"),
        ({"classes": "cat"}, "classes are 'cat': give a list"),
        ({"classes": 3}, "classes are 3: give a list"),
        ({"classes": ["cat", "cat"]}, "without duplicates"),
        ({"classes": ["cat", 1]}, "give a list"),
        ({"classes": ["cat", "dog"], "num_classes": 1}, "1 outputs are too few for 2 classes"),
        ({"num_classes": "3"}, "num_classes is '3': give a whole number"),
        ({"weights": ""}, '"" does not name weights'),
        ({"weights": "https://example.org/a.pth"}, "does not name weights: give a tag"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model("espnetv2_s0_5", **options)


def test_weights_by_their_full_name() -> None:
    model = create_model("espnetv2_seg_s0_5", weights="espnetv2_seg_s0_5.camvid")
    assert model.info is not None
    assert model.info.tag == "camvid"
    with pytest.raises(UserError, match="contains weights of espnetv2_seg_s0_5, not of espnetv2_seg_s1_0"):
        create_model("espnetv2_seg_s1_0", weights="espnetv2_seg_s0_5.camvid")
    with pytest.raises(UserError, match='did you mean "camvid"'):
        create_model("espnetv2_seg_s0_5", weights="espnetv2_seg_s0_5.camvit")


def test_mistakes_are_named(segmentation_file: Path) -> None:
    with pytest.raises(UserError, match="contains weights of espnetv2_seg_s0_5, not of espnetv2_seg_s1_0"):
        create_model("espnetv2_seg_s1_0", weights=segmentation_file)
    with pytest.raises(UserError, match="contains weights of espnetv2_seg_s0_5, not of espnetv2_s0_5"):
        create_model("espnetv2_s0_5", weights=str(segmentation_file))
    with pytest.raises(UserError, match="has 20 outputs, not 4"):
        create_model("espnetv2_seg_s0_5", weights=segmentation_file, num_classes=4)
    with pytest.raises(UserError, match="given twice"):
        create_model("espnetv2_seg_s0_5.voc_384x384", weights=segmentation_file)
    with pytest.raises(UserError, match='no weights "voc" for espnetv2_seg_s0_5: did you mean "voc_'):
        create_model("espnetv2_seg_s0_5", weights="voc")
    with pytest.raises(UserError, match=r'no checkpoint file "absent.pth"'):
        create_model("espnetv2_seg_s0_5", weights="absent.pth")
    with pytest.raises(UserError, match='did you mean "espnetv2_s2_0"'):
        create_model("espnetv2_s20")
