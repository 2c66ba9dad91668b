from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnetv2.cli.models import models
from espnetv2.weights.catalogue import catalogue


def test_json_names_every_model_and_weight(capsys: pytest.CaptureFixture[str], tmp_path: Path, official_weights: Path) -> None:
    name = "espnetv2_s_0.5_city_1024x512.pth"
    (tmp_path / name).write_bytes((official_weights / name).read_bytes())
    (tmp_path / "espnetv2_s_0.5.pth").write_bytes(b"another file")
    models(weights_dir=tmp_path, json=True)
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 16
    assert rows["espnetv2_s0_5"]["published_parameters"] == 1_241_332
    assert rows["espnetv2_seg_s2_0"]["weights"][0]["metrics"] == {"miou": 66.4}
    assert rows["espnetv2_seg_s0_5"]["weights"][0]["local"] is True
    assert rows["espnetv2_s0_5"]["weights"][0]["local"] is False
    assert sum(len(row["weights"]) for row in rows.values()) == len(catalogue())


def test_the_table_is_not_cut_where_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    models()
    table = capsys.readouterr().out
    assert "espnetv2_seg_psp_s1_25" in table
    assert "57.68/79.85" in table
    assert "2,699.05 M" in table
