from __future__ import annotations

from hashlib import sha1, sha256
from pathlib import Path

import pytest

from espnetv2.errors import UserError
from espnetv2.weights import catalogue as catalogue_module
from espnetv2.weights.catalogue import ReleasedWeights
from espnetv2.weights.download import cache_folder, fetch, is_local, local_file
from helpers import released_entry, served

CONTENT = b"not really weights, but of a known checksum" * 5000


def entry_for(content: bytes = CONTENT, *, with_sha256: bool = True) -> ReleasedWeights:
    return released_entry("espnetv2_seg_s0_5").model_copy(
        update={
            "bytes": len(content) if with_sha256 else None,
            "sha256": sha256(content).hexdigest() if with_sha256 else None,
            "git_blob_sha1": sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
    )


def path_of(entry: ReleasedWeights) -> str:
    return "/" + entry.url.partition("://")[2].partition("/")[2]


@pytest.mark.parametrize("with_sha256", [True, False])
def test_a_file_is_downloaded_verified_and_kept(monkeypatch: pytest.MonkeyPatch, with_sha256: bool) -> None:
    entry = entry_for(with_sha256=with_sha256)
    with served({path_of(entry): CONTENT}) as host:
        monkeypatch.setattr(catalogue_module, "HOST", host)
        path = fetch(entry)
    assert path == cache_folder() / entry.file
    assert path.read_bytes() == CONTENT
    assert list(cache_folder().iterdir()) == [path]
    # The server is gone: the second time the cache serves it.
    assert fetch(entry) == path


@pytest.mark.parametrize("with_sha256", [True, False])
def test_a_tampered_download_is_refused_and_removed(monkeypatch: pytest.MonkeyPatch, with_sha256: bool) -> None:
    entry = entry_for(with_sha256=with_sha256)
    with served({path_of(entry): CONTENT[:-1] + b"!"}) as host:
        monkeypatch.setattr(catalogue_module, "HOST", host)
        with pytest.raises(UserError, match=r"refused and removed \((SHA-256|git blob)"):
            fetch(entry)
    assert list(cache_folder().iterdir()) == []


def test_a_truncated_download_is_refused_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_for()
    with served({path_of(entry): CONTENT}, cut=1000) as host:
        monkeypatch.setattr(catalogue_module, "HOST", host)
        with pytest.raises(UserError, match=r"bytes instead of|Incomplete"):
            fetch(entry)
    assert list(cache_folder().iterdir()) == []


def test_a_missing_file_is_told_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with served({}) as host:
        monkeypatch.setattr(catalogue_module, "HOST", host)
        with pytest.raises(UserError, match=r"could not be downloaded \(Not Found\).*ESPNETV2_WEIGHTS or weights_dir"):
            fetch(entry_for())


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with served({}) as host:
        pass
    monkeypatch.setattr(catalogue_module, "HOST", host)
    with pytest.raises(UserError, match=r"could not be downloaded \(.*refused"):
        fetch(entry_for())


def test_a_folder_is_looked_in_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = entry_for()
    named, variable = tmp_path / "named", tmp_path / "variable"
    for folder in (named, variable):
        folder.mkdir()
        (folder / entry.file).write_bytes(CONTENT)
    monkeypatch.setenv("ESPNETV2_WEIGHTS", str(variable))
    assert fetch(entry) == variable / entry.file
    assert fetch(entry, named) == named / entry.file


def test_another_file_of_that_name_in_a_folder_is_refused_and_left(tmp_path: Path) -> None:
    entry = entry_for()
    (tmp_path / entry.file).write_bytes(b"something else")
    with pytest.raises(UserError, match="is not the released file"):
        fetch(entry, tmp_path)
    assert (tmp_path / entry.file).read_bytes() == b"something else"


def test_a_spoilt_cache_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_for()
    cache_folder().mkdir(parents=True)
    (cache_folder() / entry.file).write_bytes(CONTENT[:100])
    with served({path_of(entry): CONTENT}) as host:
        monkeypatch.setattr(catalogue_module, "HOST", host)
        assert fetch(entry).read_bytes() == CONTENT


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights_dir: .* is not a folder"):
        local_file(entry_for(), tmp_path / "absent")


@pytest.mark.usefixtures("no_home")
def test_without_a_home_a_folder_can_be_named(tmp_path: Path) -> None:
    entry = entry_for()
    assert not is_local(entry)
    with pytest.raises(UserError, match=r"could not be downloaded \(.*no home folder.*weights_dir"):
        fetch(entry)
    (tmp_path / entry.file).write_bytes(CONTENT)
    assert fetch(entry, tmp_path) == tmp_path / entry.file
