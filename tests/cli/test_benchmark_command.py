from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from espnetv2.benchmarking import preparation, timing
from espnetv2.benchmarking.report import Memory, Report
from helpers import Run

TINY = ("--size", "64x64", "--rounds", "1", "--backend", "accelerated", "--threads", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(preparation, "measure_memory", lambda _: Memory(resident_bytes=3 * 10**8, beyond_loading_bytes=10**7))


def test_a_table_below_the_machine(run: Run) -> None:
    done = run("benchmark", "espnetv2_s0_5", "--against", "espnetv2_s1_0", *TINY)
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["machine", "versions", "run", "clock"]
    assert any(line.startswith("energy: ") for line in lines)
    assert any(line.startswith("espnetv2_s0_5") and "1,241,332" in line and "57.7 top-1" in line for line in lines)
    assert any(line.startswith("espnetv2_s1_0") and "accelerated" in line for line in lines)


def test_json_is_one_document_that_the_report_reads_back(run: Run) -> None:
    done = run("benchmark", "espnetv2_s0_5", "nothing", *TINY, "--json")
    assert done.code == 1
    answer = json.loads(done.stdout)
    report = Report.model_validate(answer)
    assert [row.network for row in report.rows] == ["espnetv2_s0_5"]
    assert set(answer) == {"machine", "batch", "rounds", "energy", "idle_watts", "rows", "refused"}
    assert answer["rows"][0]["published_parameters"] == 1_241_332
    assert set(answer["rows"][0]["latency"]) == {"median_ms", "p95_ms", "spread_percent", "calls"}
    assert answer["refused"][0]["network"] == "nothing"
    assert 'not measured: nothing: no model "nothing"' in done.stderr


def test_markdown(run: Run) -> None:
    done = run("benchmark", "espnetv2_s0_5", *TINY, "--markdown")
    assert done.code == 0
    assert done.stdout.startswith("- machine: ")
    assert "\n| network | parameters | published | MACs, M |" in done.stdout


def test_rivals_behind_one_option_are_taken_as_the_usage_says(run: Run) -> None:
    done = run("benchmark", "espnetv2_s0_5", *TINY, "--json", "--against", "espnetv2_s1_0", "espnetv2_s1_25")
    assert {row["network"] for row in json.loads(done.stdout)["rows"]} == {"espnetv2_s0_5", "espnetv2_s1_0", "espnetv2_s1_25"}


def test_plots(run: Run, tmp_path: Path) -> None:
    done = run("benchmark", "espnetv2_s0_5", *TINY[2:], "--size", "224x224", "--plot", tmp_path / "cost")
    assert done.code == 0, done.stderr
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.width > 1000
    assert (tmp_path / "cost.svg").read_text("utf-8").rstrip().endswith("</svg>")
    partly = run("benchmark", "espnetv2_s0_5", "nothing", *TINY[2:], "--size", "224x224", "--plot", tmp_path / "partly.png")
    assert partly.code == 1
    assert (tmp_path / "partly.png").is_file()
    nothing = run("benchmark", "espnetv2_s0_5", *TINY, "--plot", tmp_path / "none.png")
    assert nothing.code == 1
    assert "no plot: no row has" in nothing.stderr
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("espnetv2_s0_5", "--size", "big"), '"big" is not a size'),
        (("espnetv2_s0_5", "--plot", "a.pdf"), "use .png or .svg"),
        (("espnetv2_s0_5", "--device", "tpu"), 'no device "tpu"'),
        (("espnetv2_s0_5", "--json", "--markdown"), "mutually exclusive"),
        (("espnetv2_s0_6",), 'did you mean "espnetv2_s0_5"?'),
        (("espnetv2_s0_5", "--backend", "eagr"), 'no backend "eagr": did you mean "eager"?'),
        (("espnetv2_s0_5", "--backend", "graphs", "--device", "cpu"), "graphs is for cuda"),
        (("absent.onnx",), "absent.onnx: there is no such file"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run("benchmark", *arguments)
    assert done.code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
