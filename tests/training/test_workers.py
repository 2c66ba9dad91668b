from __future__ import annotations

import sys

import pytest

from espnetv2.errors import UserError
from espnetv2.training.recipe import load_recipe
from espnetv2.training.workers import LONGEST_TEMPORARY, check_workers


@pytest.mark.skipif(sys.platform == "win32", reason="processes share images without sockets there")
def test_a_folder_too_deep_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    some = load_recipe("segmentation", ["workers=1"])
    monkeypatch.setattr("tempfile.tempdir", "/" + LONGEST_TEMPORARY * "x")
    check_workers(load_recipe("segmentation", ["workers=0"]))
    with pytest.raises(UserError, match=r"/xxx.*, has a path of more than 7\d characters.* set TMPDIR .* \(--set workers=0\)"):
        check_workers(some)
    monkeypatch.setattr("tempfile.tempdir", "/" + (LONGEST_TEMPORARY - 1) * "x")
    check_workers(some)
