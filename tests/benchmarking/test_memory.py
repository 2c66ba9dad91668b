from __future__ import annotations

from pathlib import Path

import pytest

from espnetv2.benchmarking import memory
from espnetv2.benchmarking.memory import Request, measure_memory
from espnetv2.errors import UserError

REQUEST = Request(name="espnetv2_seg_s0_5", backend="eager", size=(64, 64), batch=1, threads=1, device="cpu")


@pytest.mark.skipif(not memory._FORGET.exists(), reason="peak memory is read from Linux's /proc")
def test_peak_of_a_process_of_its_own() -> None:
    found = measure_memory(REQUEST.model_copy(update={"size": (512, 1024)}))
    # Two maps of 16 channels at half of the resolution alone are 16 MiB, and torch's libraries more than 100.
    assert 2**24 < found.beyond_loading_bytes < found.resident_bytes - 100 * 2**20
    assert found.device_bytes is None


def test_a_process_that_fails_is_told() -> None:
    with pytest.raises(UserError, match=r'its process failed: .*no model "nothing"'):
        measure_memory(REQUEST.model_copy(update={"name": "nothing"}))


def test_other_systems_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_FORGET", Path("/absent"))
    with pytest.raises(UserError, match="/proc"):
        measure_memory(REQUEST)
