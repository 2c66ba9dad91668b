from __future__ import annotations

import pytest
from rich.table import Column

from espnetv2.cli import output
from espnetv2.cli.output import print_table

COLUMNS = [Column("name"), Column("time, ms", justify="right"), Column("spread", justify="right")]
ROWS = [["espnetv2_seg_s0_5", "24.3", "3 %"], ["a", "1", ""]]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (35, ["name", "time, ms", "spread"]),
        (34, ["name", "time, ms"]),
        (26, ["name"]),
        (10, ["name"]),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns_and_says_which(
    width: int, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "WIDE", width)
    assert print_table(COLUMNS, ROWS, ["spread", "time, ms", "absent"]) == shown
    printed = " ".join(capsys.readouterr().out.split())
    assert ("…" in printed) == (width < len("espnetv2_seg_s0_5"))
    left_out = [name for name in ("spread", "time, ms") if name not in shown]
    assert ("no room for " in printed) == bool(left_out)
    assert all(name in printed for name in left_out)
