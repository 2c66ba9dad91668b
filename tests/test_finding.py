from __future__ import annotations

from pathlib import Path

from espnetv2.finding import files_below


def test_a_linked_folder_is_found_at_both_of_its_places(tmp_path: Path) -> None:
    """Whichever of them the file system names first."""
    for name in ("a", "z"):
        (tmp_path / name / "own").mkdir(parents=True)
        (tmp_path / name / "own" / "x.jpg").touch()
    (tmp_path / "a/link").symlink_to(tmp_path / "z/own")
    (tmp_path / "z/link").symlink_to(tmp_path / "a/own")
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a/link/x.jpg", "a/own/x.jpg", "z/link/x.jpg", "z/own/x.jpg"]


def test_links_that_lead_back_end_the_search(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").touch()
    (tmp_path / "a/other").symlink_to(tmp_path / "b")
    (tmp_path / "b/other").symlink_to(tmp_path / "a")
    (tmp_path / "a/up").symlink_to(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)}
    assert found == {"a/x.jpg", "b/x.jpg", "a/other/x.jpg", "b/other/x.jpg"}
