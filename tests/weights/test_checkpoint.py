from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from espnetv2.errors import UserError
from espnetv2.factory import create_model
from espnetv2.info import generic_info
from espnetv2.labels import CITYSCAPES, VOC
from espnetv2.models.registry import model_spec
from espnetv2.weights import convert_official, load_checkpoint, save_checkpoint, to_official
from espnetv2.weights.checkpoint import METADATA_KEY


def state(name: str, classes: int | None = None) -> dict[str, torch.Tensor]:
    return dict(model_spec(name).build(classes).state_dict())


def test_a_file_of_our_own_brings_its_description(tmp_path: Path) -> None:
    spec = model_spec("espnetv2_seg_s0_5")
    info = generic_info(spec, 3).model_copy(update={"classes": ("a", "b", "c"), "metrics": {"miou": 12.5}})
    save_checkpoint(state(spec.name, 3), info, tmp_path / "own.safetensors")
    assert load_checkpoint(tmp_path / "own.safetensors").info == info
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions")
def test_whoever_may_read_the_folders_files_may_read_a_checkpoint(tmp_path: Path) -> None:
    spec = model_spec("espnetv2_s0_5")
    (tmp_path / "any").touch()
    save_checkpoint(state(spec.name, 3), generic_info(spec, 3), tmp_path / "own.safetensors")
    assert (tmp_path / "own.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_what_a_file_is_follows_from_its_content(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 4)
    torch.save(own, tmp_path / "a.bin")
    save_file(own, tmp_path / "b.pth")
    torch.save(to_official(own), tmp_path / "c", _use_new_zipfile_serialization=False)
    for name in ("a.bin", "b.pth", "c"):
        checkpoint = load_checkpoint(tmp_path / name)
        assert (checkpoint.spec.name, checkpoint.info.outputs) == ("espnetv2_s0_5", 4)
        assert checkpoint.state_dict.keys() == own.keys()


def test_official_training_files_are_unwrapped(tmp_path: Path) -> None:
    official = to_official(state("espnetv2_seg_psp_s0_5", 20))
    training = {"epoch": 3, "state_dict": official, "optimizer": {"state": {}}, "lr": 1e-4, "best_val": np.float64(0.5)}
    torch.save(training, tmp_path / "training.pth")
    checkpoint = load_checkpoint(tmp_path / "training.pth")
    assert checkpoint.spec.name == "espnetv2_seg_psp_s0_5"
    assert checkpoint.info.preprocessing.channels == "BGR"
    assert checkpoint.info.classes == CITYSCAPES.classes


def test_what_is_beside_the_checkpoint_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(UserError, match=r"is the folder of a training run: give .*best\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UserError, match="is an exported file: give the checkpoint that it was exported from"):
        load_checkpoint(tmp_path / "model.onnx")
    with pytest.raises(UserError, match="is a file, not a model"):
        create_model(str(tmp_path / "best.safetensors"))


def test_scalars_of_numpy_1_are_harmless(tmp_path: Path) -> None:
    """Its module was called otherwise, and a file of that time says so."""
    content = {"state_dict": state("espnetv2_s0_5", 2), "best_val": np.float64(0.5)}
    torch.save(content, tmp_path / "now.pth", _use_new_zipfile_serialization=False)
    written = (tmp_path / "now.pth").read_bytes()
    names = b"cnumpy._core.multiarray\nscalar", b"cnumpy.core.multiarray\nscalar"
    assert any(name in written for name in names)
    for number, name in enumerate(names):
        (tmp_path / f"{number}.pth").write_bytes(written.replace(names[0], name).replace(names[1], name))
        assert load_checkpoint(tmp_path / f"{number}.pth").info.outputs == 2


def test_a_parameter_that_is_larger_than_the_file_is_refused(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 2)
    for weight in (torch.zeros(1).half().expand(10**9, 1024), torch.empty(10**9, 1024, device="meta")):
        torch.save(own | {"classifier.weight": weight}, tmp_path / "x.pth")
        with pytest.raises(UserError, match=r'its parameter "classifier.weight" has fewer stored values than its shape'):
            load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("change", [{"palette": [[300, -1, 0]] * 19}, {"mean": [float("nan")] * 3}])
def test_a_description_out_of_range_is_refused(segmentation_file: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    tensors = load_file(segmentation_file)
    with safe_open(segmentation_file, framework="pt") as file:
        described = json.loads(file.metadata()["espnetv2"])
    (described["preprocessing"] if "mean" in change else described).update(change)
    save_file(tensors, tmp_path / "x.safetensors", metadata={"espnetv2": json.dumps(described)})
    with pytest.raises(UserError, match=r"the description inside .* is damaged"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_description_without_end_is_refused(segmentation_file: Path, tmp_path: Path) -> None:
    save_file(load_file(segmentation_file), tmp_path / "x.safetensors", metadata={"espnetv2": "[" * 200_000})
    with pytest.raises(UserError, match=r"the description inside .* is damaged"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_training_modules_prefix_is_taken_off(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 4)
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in own.items()}, "epoch": 1}, tmp_path / "last.ckpt")
    assert load_checkpoint(tmp_path / "last.ckpt").state_dict.keys() == own.keys()


def test_a_description_of_any_length_is_found(tmp_path: Path) -> None:
    """The header's length makes up the first bytes of the file, which may look like another kind of file's."""
    own, info = state("espnetv2_s0_5", 2), generic_info(model_spec("espnetv2_s0_5"), 2)
    starts = set()
    for length in range(0, 264, 8):
        described = info.model_copy(update={"source": "x" * length})
        save_checkpoint(own, described, tmp_path / "x.pth")
        starts.add((tmp_path / "x.pth").read_bytes()[0])
        assert load_checkpoint(tmp_path / "x.pth").info == described
    assert 0x80 in starts


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state("espnetv2_s0_5", 2).items()
    }
    save_file(halved, tmp_path / "half.safetensors")
    loaded = load_checkpoint(tmp_path / "half.safetensors").state_dict
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(("outputs", "classes"), [(20, CITYSCAPES.classes), (21, VOC.classes), (7, None)])
def test_official_conventions_name_the_classes(tmp_path: Path, outputs: int, classes: tuple[str, ...] | None) -> None:
    torch.save(to_official(state("espnetv2_seg_s0_5", outputs)), tmp_path / "x.pth")
    info = load_checkpoint(tmp_path / "x.pth").info
    assert info.outputs == outputs
    assert info.classes == (classes or tuple(f"class {i}" for i in range(7)))


def test_a_released_file_is_recognised_under_any_name(official_weights: Path, tmp_path: Path) -> None:
    content = (official_weights / "espnetv2_s_0.5_pascal_384x384.pth").read_bytes()
    (tmp_path / "renamed.bin").write_bytes(content)
    assert load_checkpoint(tmp_path / "renamed.bin").info.name == "espnetv2_seg_s0_5.voc_384x384"


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "executed"
    torch.save({"state_dict": Malicious(marker)}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="refused: it asks to run code"):
        load_checkpoint(tmp_path / "x.pth")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_with_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": Malicious(marker)}, protocol))
    with pytest.raises(UserError, match=r"x\.pth was refused: it (asks to|needs a reader that can) run code"):
        load_checkpoint(tmp_path / "x.pth")
    assert not marker.exists()


def test_text_is_not_taken_for_code(tmp_path: Path) -> None:
    # To a pickle, "c" means an import.
    (tmp_path / "dataset.yaml").write_text("classes: [road, car]\npalette: null\n")
    with pytest.raises(UserError, match=r"dataset\.yaml is damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "dataset.yaml")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"cposix\nsystem\n\0"])
def test_a_picture_is_not_taken_for_code(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(start + bytes(100))
    with pytest.raises(UserError, match=r"x\.jpg is damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "x.jpg")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 2)
    save_file(own, tmp_path / "whole.safetensors")
    torch.save(own, tmp_path / "whole.pth")
    for name in ("whole.safetensors", "whole.pth"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("hello, this is no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    save_file({"encoder.level1.conv.weight": torch.zeros(1)}, tmp_path / "partial.safetensors")
    scalar = own | {"encoder.level1.conv.weight": torch.tensor(0.0)}
    save_file(scalar, tmp_path / "scalar.safetensors")
    save_file({name: t for name, t in own.items() if "level2" not in name}, tmp_path / "holes.safetensors")
    for name in (
        "cut_whole.safetensors",
        "cut_whole.pth",
        "empty.pth",
        "text.pth",
        "list.pth",
        "resnet.pth",
        "partial.safetensors",
        "scalar.safetensors",
        "holes.safetensors",
    ):
        with pytest.raises(UserError, match=f"{name}(?! was refused)"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match="no checkpoint file"):
        load_checkpoint(tmp_path / "absent.pth")


def test_a_description_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    info = generic_info(model_spec("espnetv2_s1_0"), 2)
    own = state("espnetv2_s0_5", 2)
    with pytest.raises(
        UserError, match=r"state dict belongs to espnetv2_s0_5 with 2 outputs, but is described as espnetv2_s1_0 with 2"
    ):
        save_checkpoint(own, info, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
    save_file(own, tmp_path / "x.safetensors", metadata={METADATA_KEY: info.model_dump_json()})
    with pytest.raises(UserError, match=r"describes espnetv2_s1_0 with 2 outputs but contains espnetv2_s0_5"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_network_without_a_description_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the network has no description: create it for its classes"):
        save_checkpoint(state("espnetv2_s0_5", 2), None, tmp_path / "x.safetensors")


def test_no_folder_to_save_in(tmp_path: Path) -> None:
    info = generic_info(model_spec("espnetv2_s0_5"), 2)
    with pytest.raises(UserError, match='absent": create it first'):
        save_checkpoint(state("espnetv2_s0_5", 2), info, tmp_path / "absent/x.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.", "module._orig_mod."])
def test_names_below_a_wrapper(prefix: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = state("espnetv2_s0_5", 2)
    wrapped = {prefix + name: tensor for name, tensor in own.items()} | {"loss.weight": torch.ones(2)}
    if suffix == ".pt":
        torch.save(wrapped, tmp_path / "x.pt")
    else:
        save_file(wrapped, tmp_path / "x.safetensors")
    assert load_checkpoint(tmp_path / f"x{suffix}").state_dict.keys() == own.keys()
    assert "does not describe its classes and preprocessing" in caplog.text


@pytest.mark.parametrize("key", ["model_state_dict", "net", "ema"])
def test_a_network_under_any_key(key: str, tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 2)
    others = {"epoch": 1, "loss": torch.tensor(0.3), "optimizer": {"state": {}}, "model": {"width": 0.5}}
    torch.save({**others, key: own}, tmp_path / "x.pth")
    assert load_checkpoint(tmp_path / "x.pth").state_dict.keys() == own.keys()
    torch.save({key: own, "other": own}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=f"contains several networks \\({key}, other\\)"):
        load_checkpoint(tmp_path / "x.pth")


def test_a_file_that_contains_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="not the parameters of an espnetv2 model"):
        load_checkpoint(tmp_path / "x.pth")


def test_the_state_of_a_compiled_network_is_saved(tmp_path: Path) -> None:
    network = create_model("espnetv2_s0_5", classes=["a", "b"]).eval()
    wrapped = torch.compile(network)
    assert isinstance(wrapped, torch.nn.Module)
    assert network.info is not None
    more = torch.nn.Sequential(torch.nn.Conv2d(4, 3, 1), network).state_dict()
    with pytest.raises(UserError, match=r"^2 parameters are not the network's: save the network's own state_dict\(\)"):
        save_checkpoint(more, network.info, tmp_path / "x.safetensors")
    save_checkpoint(wrapped.state_dict(), network.info, tmp_path / "x.safetensors")
    assert load_checkpoint(tmp_path / "x.safetensors").state_dict.keys() == network.state_dict().keys()


def test_several_networks_in_a_file(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 2)
    save_file(
        {prefix + name: tensor.clone() for prefix in ("a.", "b.") for name, tensor in own.items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(UserError, match=r"contains several networks \(a\., b\.\): save the state_dict\(\) of one"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_an_incomplete_file_is_refused_when_the_model_is_made(tmp_path: Path) -> None:
    own = state("espnetv2_s0_5", 2)
    del own["level5.units.1.act.weight"]
    save_file(own, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"not a complete espnetv2_s0_5: .*level5\.units\.1\.act\.weight"):
        create_model("espnetv2_s0_5", weights=tmp_path / "x.safetensors")


def test_official_names_may_carry_dataparallels_prefix_or_not() -> None:
    own = state("espnetv2_seg_s0_5", 2)
    for data_parallel in (True, False):
        official = to_official(own, data_parallel=data_parallel)
        assert all(name.startswith("module.") == data_parallel for name in official)
        assert convert_official(official).keys() == own.keys()
    assert next(iter(to_official(own))).startswith("base_net.")
    assert next(iter(to_official(state("espnetv2_seg_psp_s0_5")))).startswith("module.net.")


def test_converting_something_else_is_refused() -> None:
    with pytest.raises(UserError, match=r'not an official ESPNetv2 checkpoint: its first parameter is "conv1.weight"'):
        convert_official({"conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="it is empty"):
        to_official({})
