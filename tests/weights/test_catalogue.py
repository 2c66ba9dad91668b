from __future__ import annotations

import json
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.labels import CITYSCAPES, VOC
from espnetv2.models.registry import MODELS
from espnetv2.weights import find_weights, list_weights, load_checkpoint
from espnetv2.weights.catalogue import DEFAULT_MODEL, BundledWeights, bundled_folder, catalogue, released
from espnetv2.weights.download import fetch
from helpers import WEIGHTS, released_entry

LARGEST_BUNDLED = 2_000_000
CARDS = Path(__file__).parents[2] / "docs/models"


def test_every_released_file_is_there_once() -> None:
    entries = released()
    assert len(entries) == 24
    assert len({entry.file for entry in entries}) == 24
    assert len({entry.git_blob_sha1 for entry in entries}) == 24
    assert {entry.model for entry in entries} <= set(MODELS)


def test_every_entry_describes_itself() -> None:
    for entry in released():
        info = entry.info()
        assert info.name == entry.name
        height, width = info.preprocessing.height, info.preprocessing.width
        assert entry.size == f"{width}x{height}"
        assert info.licence is not None
        assert info.licence.startswith("MIT")
        expected = {"imagenet1k": (1000, 1000), "cityscapes": (19, 20), "voc": (21, 21)}[entry.dataset]
        assert (len(info.classes), info.outputs) == expected


def test_known_entries() -> None:
    entry = released_entry("espnetv2_seg_s2_0.cityscapes_1024x512")
    assert entry.metrics == {"miou": 66.4}
    assert entry.info().classes == CITYSCAPES.classes
    assert released_entry("espnetv2_seg_s2_0.voc_384x384").info().palette == VOC.palette
    assert find_weights("espnetv2_s1_25").metrics == {"top1": 67.95, "top5": 87.82}
    assert entry.url.endswith(
        "/sacmehta/EdgeNets/2b232d3f7fb60658755dad1ebca0ffc895cc795e/model/segmentation/model_zoo/espnetv2/"
        "espnetv2_s_2.0_city_1024x512.pth"
    )


def test_a_models_first_weights_are_its_default() -> None:
    assert find_weights("espnetv2_seg_s0_5").tag == "cityscapes_1024x512"
    assert list_weights("espnetv2_s1_75") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("espnetv2_seg_s2_0.cityscape", 'no weights "cityscape" for espnetv2_seg_s2_0: did you mean "cityscapes_'),
        ("espnetv2_s1_75", "no released weights"),
        ("espnet_seg_s2_0", 'did you mean "espnetv2_seg_s2_0"'),
    ],
)
def test_unknown_weights_are_answered_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_weights(name)


@pytest.mark.usefixtures("official_weights")
def test_checksums_are_those_of_the_files_at_hand() -> None:
    for entry in released():
        path = WEIGHTS / entry.file
        if path.is_file():
            content = path.read_bytes()
            assert len(content) == entry.bytes
            assert sha256(content).hexdigest() == entry.sha256
            assert sha1(b"blob %d\0" % len(content) + content).hexdigest() == entry.git_blob_sha1


@pytest.mark.usefixtures("official_weights")
def test_the_catalogue_agrees_with_the_manifest() -> None:
    manifest = WEIGHTS / "manifest.json"
    if not manifest.is_file():
        pytest.skip("no manifest beside the released weight files")
    by_file = {entry.file: entry for entry in released()}
    for row in json.loads(manifest.read_text()):
        entry = by_file.pop(row["file"])
        assert (entry.bytes, entry.sha256, entry.git_blob_sha1) == (row["bytes"], row["sha256"], row["git_blob_sha1"])
        assert entry.url.endswith(f"/{row['repository']}/{row['commit']}/{row['path']}")
        assert MODELS[entry.model].scale == row["s"]
        assert MODELS[entry.model].decoder == {"epp": "pyramid", "psp": "psp", None: None}[row["decoder"]]
    assert by_file == {}


def test_what_is_bundled_is_carried_and_says_the_same_of_itself() -> None:
    entries = [entry for entry in catalogue().values() if isinstance(entry, BundledWeights)]
    assert sorted(entry.path for entry in entries) == sorted(bundled_folder().glob("*.safetensors"))
    official = {entry.git_blob_sha1 for entry in released()}
    for entry in entries:
        assert entry.path.stat().st_size <= LARGEST_BUNDLED
        checkpoint = load_checkpoint(fetch(entry))
        info = checkpoint.info
        assert info.name == entry.name
        assert info.metrics == entry.metrics
        assert info.licence == entry.licence
        assert info.recipe is not None
        assert entry.size == f"{info.preprocessing.width}x{info.preprocessing.height}"
        assert f"| licence | {entry.licence} |" in (CARDS / f"{entry.name}.md").read_text("utf-8")
        content = entry.path.read_bytes()
        assert sha1(b"blob %d\0" % len(content) + content).hexdigest() not in official


def test_the_default_model_is_carried() -> None:
    assert isinstance(find_weights(DEFAULT_MODEL), BundledWeights)
