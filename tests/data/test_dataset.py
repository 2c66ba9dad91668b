from __future__ import annotations

from pathlib import Path

from espnetv2.data.dataset import fingerprint
from small_data import open_segmentation, write_mask, write_picture


def test_a_fingerprint_depends_on_names_not_places(tmp_path: Path) -> None:
    splits = {}
    for place, names in (("a", "12"), ("b", "12"), ("c", "13")):
        for name in names:
            write_picture(tmp_path / place / "val" / f"{name}.jpg")
            write_mask(tmp_path / place / "valannot" / f"{name}.png", [[0, 1], [1, 0]])
        splits[place] = open_segmentation("camvid", tmp_path / place)
    assert fingerprint(splits["a"]) == fingerprint(splits["b"]) != fingerprint(splits["c"])
    assert fingerprint(splits["a"], splits["c"]) != fingerprint(splits["c"], splits["a"])
