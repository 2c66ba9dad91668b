"""Get a released file from a folder, the cache or the network, and never one with a wrong checksum."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from espnetv2.errors import UserError
from espnetv2.files import atomic_path, user_cache
from espnetv2.weights.catalogue import BundledWeights, ReleasedWeights, WeightEntry

FOLDER_VARIABLE = "ESPNETV2_WEIGHTS"
TIMEOUT_S = 30
LARGEST_BYTES = 64 * 2**20


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache.

    Raises:
        OSError: the user has no home.
    """
    return user_cache("weights")


def local_file(entry: ReleasedWeights, weights_dir: str | Path | None = None) -> Path | None:
    """The file if it is on this machine, its checksum not yet verified.

    Searched in ``weights_dir``, in the folder named by the variable ESPNETV2_WEIGHTS, and in the cache.

    Raises:
        UserError: ``weights_dir`` or the variable does not name a folder.
    """
    folders = _named_folders(weights_dir)
    with suppress(OSError):
        folders.append(cache_folder())
    return next((folder / entry.file for folder in folders if (folder / entry.file).is_file()), None)


def _named_folders(weights_dir: str | Path | None) -> list[Path]:
    folders = []
    for origin, folder in (("weights_dir", weights_dir), (FOLDER_VARIABLE, os.environ.get(FOLDER_VARIABLE))):
        if folder:
            if not Path(folder).is_dir():
                raise UserError(f'{origin}: "{folder}" is not a folder: give one that contains weight files')
            folders.append(Path(folder))
    return folders


def fetch(entry: WeightEntry, weights_dir: str | Path | None = None) -> Path:
    """The file of an entry: the package's own, or the verified released one, downloaded into the cache if necessary.

    Raises:
        UserError: the file differs from the released one, or cannot be downloaded.
    """
    if isinstance(entry, BundledWeights):
        return entry.path
    assert isinstance(entry, ReleasedWeights)
    path = local_file(entry, weights_dir)
    if path is not None:
        problem = _problem(path, entry)
        if problem is None:
            return path
        if path.parent in _named_folders(weights_dir):
            raise UserError(f"{path} is not the released file ({problem}): delete it, or choose another folder")
        # Another process may have found it first.
        path.unlink(missing_ok=True)
    return _download(entry)


def is_local(entry: WeightEntry, weights_dir: str | Path | None = None) -> bool:
    """Whether the file is on this machine, and intact.

    Raises:
        UserError: ``weights_dir`` or the variable does not name a folder.
    """
    if isinstance(entry, BundledWeights):
        return entry.path.is_file()
    assert isinstance(entry, ReleasedWeights)
    path = local_file(entry, weights_dir)
    return path is not None and _problem(path, entry) is None


def matching_entry(path: Path, entries: list[ReleasedWeights]) -> ReleasedWeights | None:
    """The entry whose released file has exactly this content, regardless of the file's name."""
    blob = _git_blob_sha1(path)
    return next((entry for entry in entries if entry.git_blob_sha1 == blob), None)


def _download(entry: ReleasedWeights) -> Path:
    hint = f"download it elsewhere from {entry.url} into a folder, and set {FOLDER_VARIABLE} or weights_dir to that folder"
    try:
        target = cache_folder() / entry.file
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as partial:
            _transfer(entry, partial)
            if problem := _problem(partial, entry):
                raise UserError(f"the download of {entry.file} was refused and removed ({problem}): try again, or {hint}")
    except UserError:
        raise
    except (urllib.error.URLError, HTTPException, TimeoutError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{entry.name} could not be downloaded ({reason}): {hint}") from error
    return target


def _transfer(entry: ReleasedWeights, target: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with urllib.request.urlopen(entry.url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or entry.bytes
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"downloading {entry.name}", total=total)
            received = 0
            while chunk := response.read(2**16):
                received += len(chunk)
                if received > LARGEST_BYTES:
                    raise UserError(f"the download of {entry.file} was refused: it is larger than any released file")
                file.write(chunk)
                progress.update(task, advance=len(chunk))


def _problem(path: Path, entry: ReleasedWeights) -> str | None:
    """Why this is not the released file, or None."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "removed meanwhile"
    if entry.bytes is not None and size != entry.bytes:
        return f"{size} bytes instead of {entry.bytes}"
    if entry.sha256 is not None:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        return None if found == entry.sha256 else f"SHA-256 {found[:12]}… instead of {entry.sha256[:12]}…"
    found = _git_blob_sha1(path)
    return None if found == entry.git_blob_sha1 else f"git blob {found[:12]}… instead of {entry.git_blob_sha1[:12]}…"


def _git_blob_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
