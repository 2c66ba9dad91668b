from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnetv2.acceleration import compiler
from espnetv2.acceleration.compiler import KernelsUnavailableError, cache_folder, kernels


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    kernels.cache_clear()
    folder = tmp_path / "cache"
    monkeypatch.setattr(compiler, "cache_folder", lambda: folder)
    yield folder
    kernels.cache_clear()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_kernels_are_built_once(empty_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "espnetv2"):
        kernels()
        kernels.cache_clear()
        kernels()
    assert len(caplog.messages) == 1
    assert "once" in caplog.messages[0]
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".sha256", ".so"]


def test_a_damaged_build_is_built_anew(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded, half a file ends the process with a bus error."""
    kernels()
    (built,) = empty_cache.glob("*.so")
    content = built.read_bytes()
    half = len(content) // 2

    class RebuiltError(Exception):
        pass

    def build(*_: object) -> None:
        raise RebuiltError

    monkeypatch.setattr(compiler, "_build", build)
    for damaged in (content[:half], content[:half] + bytes(len(content) - half), b""):
        # A new file in its place: the old one is in use.
        built.unlink()
        built.write_bytes(damaged)
        kernels.cache_clear()
        with pytest.raises(RebuiltError):
            kernels()
    built.unlink()
    built.write_bytes(content)
    assert kernels() is not None
    kernels.cache_clear()
    built.with_suffix(".sha256").unlink()
    with pytest.raises(RebuiltError):
        kernels()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="other systems have no such rights")
def test_a_folder_that_others_can_write_to_is_not_trusted(empty_cache: Path) -> None:
    before = os.umask(0)
    try:
        kernels()
    finally:
        os.umask(before)
    (built,) = empty_cache.glob("*.so")
    for place, mode in ((empty_cache, 0o777), (empty_cache, 0o770), (built, 0o775)):
        usual = place.stat().st_mode
        place.chmod(mode)
        kernels.cache_clear()
        with pytest.raises(KernelsUnavailableError, match="can be written by others: remove it"):
            kernels()
        place.chmod(usual)
    kernels()


@pytest.mark.usefixtures("no_home")
def test_no_home() -> None:
    with pytest.raises(KernelsUnavailableError, match=r"no folder to keep the kernels in \(this user has no home"):
        cache_folder()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelsUnavailableError, match=r"a C compiler \(cc, gcc, clang\) is not installed"):
        kernels()


def test_the_compiler_that_cc_names_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(KernelsUnavailableError, match="no-such-cc that CC names"):
        kernels()


def test_cc_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", 'gcc "')
    with pytest.raises(KernelsUnavailableError, match="CC is not a command"):
        kernels()


def test_cc_may_hold_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc -Wall")
    assert kernels() is not None


def test_a_compiler_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path) -> None:
    broken = script(tmp_path / "broken-cc", 'case "$*" in *-E*) exit 0;; esac; echo "x.c:1: error: no OpenMP" >&2; exit 1')
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(KernelsUnavailableError, match=r"building the kernels failed: x\.c:1: error: no OpenMP"):
        kernels()
    assert list(empty_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(compiler, "cache_folder", lambda: file / "inside")
    with pytest.raises(KernelsUnavailableError, match="cannot be stored"):
        kernels()


def test_a_build_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = script(tmp_path / "empty-cc", "exit 0")
    monkeypatch.setenv("CC", str(empty))
    with pytest.raises(KernelsUnavailableError, match="cannot be loaded"):
        kernels()
