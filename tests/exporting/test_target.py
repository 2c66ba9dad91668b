"""What an export may replace, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.exporting.export import export
from espnetv2.exporting.formats import FORMATS
from espnetv2.exporting.target import check_target, file_size, keep
from exports import small_segmentation

OPENVINO, NCNN, ONNX = FORMATS["openvino"], FORMATS["ncnn"], FORMATS["onnx"]


def test_what_is_new_or_written_by_an_export_is_replaced(tmp_path: Path) -> None:
    check_target(tmp_path / "new.xml", OPENVINO)
    for name in ("old.bin", "old.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "old.xml").write_text('<?xml version="1.0"?>\n<net name="Model0" version="11"><espnetv2/></net>\n')
    check_target(tmp_path / "old.xml", OPENVINO)
    check_target(tmp_path / "old.onnx", ONNX)
    (tmp_path / "old.ncnn").mkdir()
    check_target(tmp_path / "old.ncnn", NCNN)
    (tmp_path / "old.ncnn" / "espnetv2.json").touch()
    (tmp_path / "old.ncnn" / "more").touch()
    check_target(tmp_path / "old.ncnn", NCNN)


@pytest.mark.parametrize("has_graph", [True, False])
@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_beside_an_openvino_file_stays(tmp_path: Path, has_graph: bool, is_folder: bool) -> None:
    if has_graph and not is_folder:
        pytest.skip("its own weights")
    beside = tmp_path / "m.bin"
    beside.mkdir() if is_folder else beside.touch()
    if has_graph:
        (tmp_path / "m.xml").touch()
    with pytest.raises(UserError, match=r"m\.bin (already exists|is already a folder)"):
        check_target(tmp_path / "m.xml", OPENVINO)


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "scene.xml").write_text("<annotation><filename>scene.jpg</filename></annotation>")
    (tmp_path / "other.onnx").write_bytes(b"a network of another program")
    for name, kind in (("scene.xml", OPENVINO), ("other.onnx", ONNX)):
        with pytest.raises(
            UserError, match=rf"{name} already exists and was not exported by this program: choose another name"
        ):
            check_target(tmp_path / name, kind)


def test_a_folder_of_somebody_else_stays(tmp_path: Path) -> None:
    out = tmp_path / "m.ncnn"
    out.mkdir()
    (out / "precious.txt").touch()
    with pytest.raises(UserError, match="is a folder that is not in NCNN format"):
        check_target(out, NCNN)
    (tmp_path / "link.ncnn").symlink_to(out)
    with pytest.raises(UserError, match="is already a link"):
        check_target(tmp_path / "link.ncnn", NCNN)
    (tmp_path / "file.ncnn").touch()
    with pytest.raises(UserError, match="is already a file"):
        check_target(tmp_path / "file.ncnn", NCNN)
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(UserError, match="is already a folder"):
        check_target(tmp_path / "m.onnx", ONNX)


def test_an_older_folder_is_back_if_the_new_one_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = tmp_path / "made", tmp_path / "m.ncnn"
    (made / "m.ncnn").mkdir(parents=True)
    out.mkdir()
    (out / "old").touch()
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent == made and target == out and not self.name.endswith(".old"):
            raise OSError("full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="full"):
        keep(made, out)
    assert (out / "old").exists()
    monkeypatch.undo()
    (made / "m.ncnn" / "new").touch()
    keep(made, out)
    assert [path.name for path in out.iterdir()] == ["new"]


def test_sizes_count_all_that_belongs_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_bytes(b"12")
    (tmp_path / "m.bin").write_bytes(b"345")
    assert file_size(tmp_path / "m.xml", OPENVINO) == 5
    (tmp_path / "m.ncnn").mkdir()
    (tmp_path / "m.ncnn" / "model.bin").write_bytes(b"1234")
    assert file_size(tmp_path / "m.ncnn", NCNN) == 4


def test_a_suffix_that_the_format_would_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"OpenVINO IR file names end in \.xml"):
        export(small_segmentation(), tmp_path / "M.XML", format="openvino")
