"""LiteRT files; `make test-litert` installs what they need."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.runtimes.runtime import open_runtime
from exports import check_damaged, check_round_trip, small_classification, small_segmentation
from helpers import Run

pytest.importorskip("litert_torch")


def test_a_file_gives_what_the_network_gives_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    done = check_round_trip(small_segmentation(), path, format="litert")
    assert done.verification is not None
    assert done.verification.difference is not None
    assert done.verification.difference < 1e-4
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
    (tmp_path / "bare.tflite").write_bytes(path.read_bytes()[: entry.header_offset])
    with pytest.raises(UserError, match="does not contain a description"):
        open_runtime(tmp_path / "bare.tflite")


def test_a_file_takes_pixels_and_decides(tmp_path: Path) -> None:
    options = {"format": "litert", "input": "uint8", "output": "classes"}
    check_round_trip(small_classification(), tmp_path / "model.tflite", **options)


@pytest.mark.parametrize("content", [b"", b"nonsense\n" * 99])
def test_a_damaged_file_is_one_line(content: bytes, tmp_path: Path, run: Run) -> None:
    check_damaged(content, tmp_path / "model.tflite", "LiteRT", run)
