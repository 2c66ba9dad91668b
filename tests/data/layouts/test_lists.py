from __future__ import annotations

from pathlib import Path

import pytest

from espnetv2.data.layouts import open_dataset
from espnetv2.errors import UserError
from espnetv2.labels import CITYSCAPES
from small_data import open_segmentation, write_mask, write_picture


def test_lists_of_pairs(tmp_path: Path) -> None:
    write_picture(tmp_path / "a/x.png")
    write_mask(tmp_path / "b/x_labelTrainIds.png", [[0, 18], [255, 3]])
    (tmp_path / "val.txt").write_text("a/x.png, b/x_labelTrainIds.png\n\n/a/x.png,/b/x_labelTrainIds.png\n")
    data = open_segmentation("auto", tmp_path)
    assert (data.layout, len(data), data.labels) == ("list", 2, CITYSCAPES)
    assert data.mask(1).tolist() == [[0, 18], [255, 3]]
    (tmp_path / "val.txt").write_text("a/x.png,b/absent.png\n")
    with pytest.raises(UserError, match="line 1: there is no file"):
        open_dataset("list", tmp_path, "val")
