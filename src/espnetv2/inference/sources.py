"""The inputs of a prediction as a stream of items, none of which is decoded yet."""

from __future__ import annotations

import glob
import logging
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from espnetv2.errors import UserError
from espnetv2.finding import files_below, pictures_among
from espnetv2.images import as_rgb, decoding, picture_from_array, read_picture
from espnetv2.inference.video import VIDEO_SUFFIXES, read_frames
from espnetv2.ownership import is_result

Source: TypeAlias = str | os.PathLike[str] | int | Image.Image | npt.NDArray[np.generic]

TIMEOUT_S = 30
LONGEST_PATH = 4000
LARGEST_DOWNLOAD = 512 * 2**20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One image, not yet decoded.

    Attributes:
        source: readable name.
        stem: file name of its outputs, without suffix.
        read: decodes it into 8-bit RGB; raises UserError if that is impossible.
        frame: its number within a video or camera stream, else None.
        fps: frames per second of that video; None for a camera.
        seconds: time of the frame after the first one.
    """

    source: str
    stem: str
    read: Callable[[], Image.Image]
    frame: int | None = None
    fps: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Stream:
    """The items of one or more sources, and their number if known."""

    items: Iterator[Item]
    count: int | None
    paths: tuple[Path, ...]
    """Files that are read, so that nothing overwrites them."""
    dropped: set[str] = field(default_factory=set)
    """Stems of videos whose remaining frames are to be skipped; may grow while the items are read."""


def open_sources(sources: Sequence[Source], *, first: int = 0) -> Stream:
    """A stream of all ``sources``, in order.

    A source is an image's path, a folder (searched recursively), a glob, an http(s) URL, a video file, a camera's index,
    ``-`` for standard input, a PIL image or an array of 8-bit RGB pixels (H, W, 3).

    Results that this program wrote are left out of folders and globs.

    Args:
        sources: at least one.
        first: number of the first source, for naming images that have no name.

    Raises:
        UserError: a source does not exist, a folder or glob has no images, or an array is not an image.
    """
    videos: list[Path] = []
    # An image may be given twice, and two threads must not read its file at once.
    locks: dict[int, threading.Lock] = defaultdict(threading.Lock)
    entries = [entry for number, source in enumerate(sources, first) for entry in _expand(source, number, videos, locks)]
    paths = tuple(entry.path for entry in entries if entry.path is not None)
    given = set(paths)
    if skipped := [path for path in videos if path not in given]:
        log.warning(
            "skipped the videos in folders (%d, the first is %s): give them by name or by a pattern", len(skipped), skipped[0]
        )
    streaming = any(entry.stream is not None for entry in entries)
    dropped: set[str] = set()
    return Stream(_items(entries, dropped), None if streaming else len(entries), paths, dropped)


@dataclass(frozen=True)
class _Entry:
    """A source that is one image (``read``) or one stream of frames (``stream``)."""

    label: str
    stem: str
    read: Callable[[], Image.Image] | None = None
    stream: Path | int | str | None = None
    path: Path | None = None


def _items(entries: Sequence[_Entry], dropped: set[str]) -> Iterator[Item]:
    stems: set[str] = set()
    for entry in entries:
        stem = _unused(entry.stem, stems)
        stems.add(stem.lower())
        if entry.read is not None:
            yield Item(entry.label, stem, entry.read)
        elif entry.stream is not None:
            yield from _frames(entry, entry.stream, stem, dropped)


def _frames(entry: _Entry, stream: Path | int | str, stem: str, dropped: set[str]) -> Iterator[Item]:
    try:
        for frame in read_frames(stream):
            if stem in dropped:
                return
            name = f"{entry.label}#{frame.number}"
            yield Item(name, stem, partial(_same, frame.picture), frame.number, frame.fps, frame.seconds)
    except UserError as error:
        # Reported like an image that cannot be decoded, so that the other sources are not lost.
        yield Item(entry.label, stem, partial(_fail, error))


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _fail(error: UserError) -> Image.Image:
    raise error


def _expand(source: Source, number: int, videos: list[Path], locks: dict[int, threading.Lock]) -> list[_Entry]:
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", None)
        stem = Path(filename).stem if filename else f"image{number}"
        return [_Entry(stem, stem, partial(_convert, source, stem, locks[id(source)]))]
    if isinstance(source, np.ndarray):
        return [_Entry(f"image{number}", f"image{number}", partial(picture_from_array, source))]
    # A camera's index may be a NumPy integer, but not a bool.
    if isinstance(source, bool) or not isinstance(source, str | os.PathLike | int | np.integer):
        raise UserError(
            f"unsupported source of type {type(source).__name__}: give a path, a folder, a glob, a URL, a camera's number, "
            "a PIL image, an array of RGB pixels (H, W, 3), or a list of these"
        )
    text = os.fsdecode(source) if isinstance(source, os.PathLike) else str(source)
    path = Path(text)
    if len(os.fsencode(text)) > LONGEST_PATH:
        raise UserError(f"a source of {len(text)} characters is not a path: {text[:40]}…")
    if not text:
        raise UserError("a source is empty: give an image, a folder, a glob, a URL or a video")
    if text == "-":
        # Read here, since a thread that waits for input could not be interrupted.
        content = sys.stdin.buffer.read() if sys.stdin is not None else b""
        return [_Entry("standard input", "stdin", partial(read_picture, content, "standard input"))]
    if text.lower().startswith(("http://", "https://")):
        return [_url_entry(text)]
    if path.is_file():
        return [_file_entry(path)]
    if path.is_dir():
        return [_file_entry(found) for found in _pictures_in(path, videos)]
    if glob.has_magic(text):
        return [_file_entry(match) for match in _matches(text)]
    if text.isdecimal():
        return [_Entry(f"camera {text}", f"camera{text}", stream=int(text))]
    raise UserError(f'no file or folder "{text}": check the path')


def _convert(picture: Image.Image, name: str, lock: threading.Lock) -> Image.Image:
    if not picture.width or not picture.height:
        raise UserError(f"{name}: the image is empty: {picture.width}x{picture.height} pixels")
    with lock, decoding(name):
        return as_rgb(picture)


def _file_entry(path: Path) -> _Entry:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _Entry(str(path), path.stem, stream=path, path=path)
    return _Entry(str(path), path.stem, partial(read_picture, path), path=path)


def _url_entry(url: str) -> _Entry:
    try:
        parts = urllib.parse.urlsplit(url)
        request = _request(parts)
    except ValueError as error:
        raise UserError(f'"{url}" is not a valid URL ({error}): check it') from error
    name = Path(urllib.parse.unquote(parts.path))
    # The server's name becomes a file name here: not hidden, and without characters that file systems refuse.
    allowed = "".join(letter for letter in name.stem if letter.isprintable() and letter not in '<>:"|?*\\')
    stem = allowed.lstrip(".") or "download"
    if name.suffix.lower() in VIDEO_SUFFIXES:
        return _Entry(url, stem, stream=request)
    return _Entry(url, stem, lambda: read_picture(_download(request), url))


def _request(parts: urllib.parse.SplitResult) -> str:
    """A URL as copied by a user, perhaps with spaces and umlauts, encoded as servers expect it."""
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    path, query = (urllib.parse.quote(part, safe="%/:=&?~+!$,;'@()*[]") for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))


def _pictures_in(folder: Path, videos: list[Path]) -> list[Path]:
    """The images below a folder; adds its videos to ``videos``."""
    files = files_below(folder)
    found = pictures_among(files, folder)
    kept = [path for path in found if not is_result(path)]
    films = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES and not is_result(path)]
    if not kept:
        reason = "it has only results of earlier predictions" if found else "it needs files such as .jpg or .png"
        if films:
            pattern = Path(glob.escape(str(folder)), "**", f"*{films[0].suffix}")
            reason = f'its videos need a pattern, such as "{pattern}"'
        raise UserError(f'no images in the folder "{folder}": {reason}')
    videos += films
    return kept


def _matches(pattern: str) -> list[Path]:
    found = [Path(match) for match in sorted(glob.glob(pattern, recursive=True)) if Path(match).is_file()]
    kept = [path for path in found if not is_result(path)]
    if not kept:
        reason = "only results of earlier predictions match it" if found else "check the pattern"
        raise UserError(f'no file matches "{pattern}": {reason}')
    return kept


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read(LARGEST_DOWNLOAD + 1)
    except (urllib.error.URLError, HTTPException, TimeoutError, OSError, ValueError) as error:
        raise UserError(f"{url}: cannot be downloaded ({getattr(error, 'reason', None) or error})") from error
    if len(content) > LARGEST_DOWNLOAD:
        raise UserError(f"{url}: larger than {LARGEST_DOWNLOAD // 2**20} MiB: download it and give the file")
    return content


def _unused(stem: str, taken: set[str]) -> str:
    """``stem``, with a number if an earlier image already has that name."""
    number, candidate = 2, stem
    while candidate.lower() in taken:
        candidate, number = f"{stem}_{number}", number + 1
    return candidate
