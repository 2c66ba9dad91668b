from __future__ import annotations

from importlib import import_module

import pytest
import torch

from espnetv2.acceleration.gpu import fused, operators
from espnetv2.acceleration.gpu.fused import FusedNetwork
from espnetv2.acceleration.gpu.streams import with_streams
from networks import distance, exactly, trained_like

NAMES = ["espnetv2_s0_5", "espnetv2_s2_0", "espnetv2_seg_s0_5", "espnetv2_seg_s1_25", "espnetv2_seg_psp_s0_5"]
KERNELS = {
    "middle": "branches",
    "pointwise": "pointwise",
    "convolve": "convolve",
    "stages": "stages",
    "fuse": "resize",
    "join": "join",
    "classes": "resize",
}


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_the_networks_own(name: str) -> None:
    model = trained_like(name, 6)
    fast = FusedNetwork(model)
    for shape in ((1, 3, 64, 96), (2, 3, 37, 43), (1, 3, 1, 1)):
        image = torch.randn(shape)
        assert distance(fast(image), exactly(model, image)) < 3e-6
        assert distance(with_streams(trained_like(name, 6))(image), exactly(model, image)) < 3e-6


@torch.no_grad()
def test_class_maps() -> None:
    model = trained_like("espnetv2_seg_s0_5", 6)
    image = torch.randn(2, 3, 37, 43)
    fast = FusedNetwork(model, winners=4)
    assert fast.gives_classes
    assert torch.equal(fast(image).long(), exactly(model, image)[:, :4].argmax(1))
    assert not FusedNetwork(trained_like("espnetv2_seg_psp_s0_5", 6), winners=4).gives_classes


@torch.no_grad()
@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for machines without a GPU")
def test_the_parts_run_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    model = trained_like("espnetv2_seg_s0_5", 6)
    encoder, decoder = model.get_submodule("encoder"), model.get_submodule("decoder")
    fast = FusedNetwork(model, winners=5).network
    for name, module in KERNELS.items():
        kernel = getattr(import_module(f"espnetv2.acceleration.gpu.kernels.{module}"), name)
        monkeypatch.setattr(operators, name, kernel)
    image, level1 = torch.randn(1, 3, 1, 2), torch.randn(1, 16, 2, 3)
    levels = encoder.get_submodule("level2")(level1, image)
    assert distance(fast.get_submodule("encoder.level2")(level1, image), levels) < 1e-6
    unit, level4 = "encoder.level4.units.0", torch.randn(1, 128, 1, 2)
    assert distance(fast.get_submodule(unit)(level4), model.get_submodule(unit)(level4)) < 1e-6
    below = torch.randn(1, 32, 1, 2)
    fused = decoder.get_submodule("skip1")(level1) + decoder.get_submodule("resize")(below, (2, 3))
    fused = decoder.get_submodule("fuse1")(fused)
    found = fast.get_submodule("decoder.fuses.2")(level1, below)
    assert distance(found, fused) < 1e-6
    assert distance(fast.get_submodule("decoder.pools.3")(found), decoder.get_submodule("pool1")(fused)) < 1e-6


@torch.no_grad()
def test_tables_of_few_sizes_are_kept_and_those_of_the_last_call_are_held() -> None:
    fast = FusedNetwork(trained_like("espnetv2_seg_s0_5", 6))
    for side in range(16, 64, 2):
        fast(torch.zeros(1, 3, side, side))
    assert len(fast._tables) <= fused._TABLES_KEPT
    held = fast.held()
    assert isinstance(held, list)
    sizes = [(tables.rows.shape[-1], tables.columns.shape[-1]) for tables in held]
    assert {(31, 31), (16, 16), (8, 8), (4, 4)} <= set(sizes)


def test_a_layer_without_a_fused_form_is_told() -> None:
    model = trained_like("espnetv2_seg_s0_5", 6)
    model.get_submodule("decoder.pool1").expand = torch.nn.Conv2d(3, 6, 3, padding=1)
    with pytest.raises(ValueError, match="no fused form"):
        FusedNetwork(model)
    with pytest.raises(ValueError, match="float64"):
        FusedNetwork(trained_like("espnetv2_s0_5").double())
