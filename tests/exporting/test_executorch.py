"""ExecuTorch files; `make test-executorch` installs what they need."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from espnetv2.errors import UserError
from espnetv2.runtimes.quiet import quiet
from espnetv2.runtimes.runtime import open_runtime
from exports import check_damaged, check_round_trip, small_classification, small_segmentation
from helpers import Run

pytest.importorskip("executorch")


def test_a_file_gives_what_the_network_gives(tmp_path: Path) -> None:
    done = check_round_trip(small_segmentation(), tmp_path / "model.pte", format="executorch")
    assert done.verification is not None
    assert done.verification.difference is not None
    assert done.verification.difference < 1e-4


def test_a_file_takes_pixels_and_decides(tmp_path: Path) -> None:
    options = {"format": "executorch", "input": "uint8", "output": "classes"}
    check_round_trip(small_classification(), tmp_path / "model.pte", **options)


@pytest.mark.parametrize("content", [b"", b"nonsense\n" * 99])
def test_a_damaged_file_is_one_line(content: bytes, tmp_path: Path, run: Run) -> None:
    check_damaged(content, tmp_path / "model.pte", "ExecuTorch", run)


def test_a_file_without_description_is_refused(tmp_path: Path) -> None:
    with quiet():
        exir: Any = import_module("executorch.exir")
        program = exir.to_edge_transform_and_lower(torch.export.export(nn.ReLU(), (torch.zeros(1, 3, 8, 8),)))
        path = tmp_path / "model.pte"
        path.write_bytes(program.to_executorch().buffer)
    with pytest.raises(UserError, match="does not contain a description"):
        open_runtime(path)
