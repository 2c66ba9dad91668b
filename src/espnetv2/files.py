"""Folders for files, and writing them so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from espnetv2.errors import UserError

PARTIAL = ".partial-"


@contextmanager
def atomic_path(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path beside ``target`` to write to; it becomes ``target`` at the end of the block, or is removed after an error.

    Args:
        target: the path.
        durable: wait until the content is on the disk, so that not even a power cut leaves an empty file; for what took hours.
    """
    partial = target.parent / f"{PARTIAL}{secrets.token_hex(8)}{target.suffix}"
    # Created here and not by the writer, so that another's file is never mistaken for it.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def user_cache(kind: str) -> Path:
    """The user's cache folder for a kind of files; it need not exist.

    Raises:
        OSError: the user has no home.
    """
    try:
        return Path(platformdirs.user_cache_dir("espnetv2")) / kind
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder, and XDG_CACHE_HOME does not name one") from error


def writable_folder(folder: str | Path) -> Path:
    """``folder``, created if necessary and checked for writing.

    Raises:
        UserError: it is a file, or cannot be created or written to.
    """
    path = create_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable(folder, f" ({error.strerror})") from error
    return path


def create_folder(folder: str | Path) -> Path:
    """``folder``, created if necessary.

    Raises:
        UserError: it is a file, or cannot be created.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _unwritable(folder, ": it is a file, or below one") from error
    except OSError as error:
        raise _unwritable(folder, f" ({error.strerror})") from error
    return path


def _unwritable(folder: str | Path, reason: str) -> UserError:
    return UserError(f'cannot write to the folder "{folder}"{reason}: choose another')


@contextmanager
def results_folder(folder: str | Path) -> Iterator[Path]:
    """A ``writable_folder`` for the block; folders that were created for it and stayed empty are removed afterwards.

    Raises:
        UserError: for the reasons of ``writable_folder``.
    """
    path = Path(folder)
    made = [place for place in (path, *path.parents) if not place.exists()]
    try:
        yield writable_folder(path)
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()
