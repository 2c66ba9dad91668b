from __future__ import annotations

import runpy

from helpers import ROOT


def test_the_table_of_the_results_is_of_the_weights_that_are_carried() -> None:
    text = (ROOT / "docs/results.md").read_text("utf-8")
    assert text == runpy.run_path(str(ROOT / "tools/collect_results.py"))["with_table"](text), "run tools/collect_results.py"
