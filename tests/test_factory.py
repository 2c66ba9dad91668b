from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import espnetv2
from espnetv2.errors import UserError
from espnetv2.factory import create_model, find_network


def test_the_public_names_are_there() -> None:
    for name in espnetv2.__all__:
        assert getattr(espnetv2, name) is not None
    assert set(dir(espnetv2)) == set(espnetv2.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = espnetv2.absent


def test_without_weights_a_model_is_in_training_mode_and_has_no_info() -> None:
    model = create_model("espnetv2_s0_5", num_classes=10)
    assert model.training
    assert model.info is None
    assert model.num_classes == 10


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


def test_mistakes_are_named(segmentation_file: Path) -> None:
    with pytest.raises(UserError, match="holds weights of espnetv2_seg_s0_5, not of espnetv2_seg_s1_0"):
        create_model("espnetv2_seg_s1_0", weights=segmentation_file)
    with pytest.raises(UserError, match="holds weights of espnetv2_seg_s0_5, not of espnetv2_s0_5"):
        create_model("espnetv2_s0_5", weights=str(segmentation_file))
    with pytest.raises(UserError, match="has 20 outputs, not 4"):
        create_model("espnetv2_seg_s0_5", weights=segmentation_file, num_classes=4)
    with pytest.raises(UserError, match="named twice"):
        create_model("espnetv2_seg_s0_5.voc_384x384", weights=segmentation_file)
    with pytest.raises(UserError, match='no weights "voc" for espnetv2_seg_s0_5: did you mean "voc_'):
        create_model("espnetv2_seg_s0_5", weights="voc")
    with pytest.raises(UserError, match=r'no checkpoint file "absent.pth"'):
        create_model("espnetv2_seg_s0_5", weights="absent.pth")
    with pytest.raises(UserError, match='did you mean "espnetv2_s2_0"'):
        create_model("espnetv2_s20")
