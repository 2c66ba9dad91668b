from __future__ import annotations

import pytest

from espnetv2.benchmarking.report import Refusal, Report
from espnetv2.benchmarking.tables import foot, head, markdown, tables
from helpers import benchmark_report


@pytest.fixture
def report() -> Report:
    return benchmark_report()


def test_the_first_lines_say_where_and_how(report: Report) -> None:
    lines = head(report)
    assert lines[0] == "machine: a processor, 2 cores, 8 GiB, Linux"
    assert lines[1] == "versions: torch 2.9"
    assert lines[2] == "run: batch 1, 2 threads, 3 rounds, one turn per row in each"
    assert lines[4] == "check, other load: FAILED: others took half"
    assert lines[5] == "check, throttling: cannot tell: hidden"
    assert lines[-1] == "energy: RAPL; 3.0 W while idle, not subtracted"


def test_markdown_has_a_line_for_each_network_and_each_row(report: Report) -> None:
    lines = markdown(report).splitlines()
    assert "| espnetv2_s0_5 | 1,239,722 | 1,241,332 | 28.38 | 1.02 | 5.1 | 57.7 top-1 |" in lines
    assert sum(line.startswith("| espnetv2_s0_5 |") for line in lines) == 3
    assert "| espnetv2_s0_5 | eager | 224x224 | 20.0 | 22.0 | 10 % | 50.0 | 10.00 | 300.0 | 10.0 | 120 | 6.00 |" in lines
    assert all(line.count("|") == 8 for line in lines if line.startswith("| espnetv2_s0_5 | 1,"))


def test_columns_without_a_figure_are_left_out(report: Report) -> None:
    bare = report.model_copy(
        update={"rows": tuple(row.model_copy(update={"energy": None, "memory": None, "accuracy": None}) for row in report.rows)}
    )
    text = markdown(bare)
    for title in ("mJ/image", "peak, MB", "accuracy", "GPU, MB"):
        assert f"| {title} " not in text
        assert title == "GPU, MB" or f"| {title} " in markdown(report)
    assert len(tables(bare)) == 2


def test_sources_and_refusals_come_last(report: Report) -> None:
    refused = report.model_copy(update={"refused": (Refusal(network="a", backend="b", reason="because"),)})
    assert markdown(refused).endswith("- not measured: a on b: because")
    assert "accuracy of espnetv2_s0_5.imagenet1k: imagenet1k, 224x224, published by the authors" in foot(refused)
    nothing = refused.model_copy(update={"rows": ()})
    assert foot(nothing) == []
    assert tables(nothing) == []
    assert markdown(nothing).endswith("- not measured: a on b: because")
