from __future__ import annotations

import os
from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.files import atomic_path, writable_folder


def break_off(target: Path) -> None:
    with atomic_path(target) as partial:
        partial.write_text("never")
        raise RuntimeError("broken off")


def test_a_reader_finds_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with atomic_path(target) as partial:
        partial.write_text("half")
        assert target.read_text() == "old"
    assert target.read_text() == "half"
    with pytest.raises(RuntimeError, match="broken off"):
        break_off(target)
    assert target.read_text() == "half"
    assert list(tmp_path.iterdir()) == [target]


def test_files_have_the_usual_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "x"):
            pass
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot write to the folder .*: it is a file, or below one"):
            writable_folder(folder)
    assert writable_folder(tmp_path / "a" / "b").is_dir()
