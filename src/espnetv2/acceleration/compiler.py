"""Compile the package's C kernels for this processor, once, and cache the result."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
from importlib import resources
from pathlib import Path

from espnetv2.acceleration.sizes import DEFINITIONS
from espnetv2.errors import UserError
from espnetv2.files import atomic_path, user_cache

COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", *DEFINITIONS)
_SECONDS = 120

log = logging.getLogger(__name__)


class KernelsUnavailableError(UserError):
    """The kernels are not available here; the message gives the reason."""


@functools.cache
def kernels() -> ctypes.CDLL:
    """The compiled kernels, built at the first call on a machine and loaded from the cache afterwards.

    They run in torch's own thread pool, since both load the same OpenMP library.

    Raises:
        KernelsUnavailableError: no compiler, or it fails; no folder for the result, or one that others can write to.
    """
    import torch  # noqa: F401  (its OpenMP library has to be the one in the process)

    compiler = _compiler()
    sources = _sources()
    try:
        path = cache_folder() / f"kernels-{_fingerprint(compiler, sources)}.so"
        _make_folder(path.parent)
        if not _is_whole(path):
            log.info("building the kernels for this processor, once (a few seconds): %s", path)
            _build(compiler, sources, path)
        _refuse_strangers(path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelsUnavailableError(f"the built kernels cannot be loaded ({error})") from error


@functools.cache
def vector_lanes() -> int:
    """Number of channels that the kernels process together on this processor.

    Raises:
        KernelsUnavailableError: for the reasons of ``kernels``.
    """
    return int(kernels().espnetv2_lanes())


def cache_folder() -> Path:
    """The folder of compiled kernels.

    Raises:
        KernelsUnavailableError: the user has no home.
    """
    try:
        return user_cache("kernels")
    except OSError as error:
        raise KernelsUnavailableError(f"there is no folder to keep the kernels in ({error.strerror})") from error


def _compiler() -> list[str]:
    """The compiler, with arguments from CC."""
    named = os.environ.get("CC", "").strip()
    try:
        given = shlex.split(named)
    except ValueError as error:
        raise KernelsUnavailableError(f"CC is not a command: {named} ({error})") from error
    for words in (given,) if given else ([name] for name in COMPILERS):
        found = shutil.which(words[0])
        if found is not None:
            return [found, *words[1:]]
    wanted = f"the compiler {named} that CC names" if named else f"a C compiler ({', '.join(COMPILERS)})"
    raise KernelsUnavailableError(f"{wanted} is not installed")


def _sources() -> dict[str, str]:
    folder = resources.files("espnetv2.acceleration").joinpath("kernels")
    return {file.name: file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda file: file.name)}


def _target() -> str:
    return "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"


def _fingerprint(compiler: list[str], sources: dict[str, str]) -> str:
    """Changes with anything that the built file depends on."""
    # Includes what "native" means, so that a home folder shared by several machines keeps one build for each.
    command = [*compiler, _target(), "-E", "-v", "-x", "c", os.devnull]
    # Some compilers print the folder that they are called in.
    told = _run(command, "asking the compiler for its target", cwd=Path.cwd().anchor).stderr
    parts = [told, *compiler, *_FLAGS, *(part for source in sources.items() for part in source)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _digest_of(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether a build exists and is intact: a partial one, left by a power cut, would crash the process."""
    try:
        return _digest_of(path).read_text("ascii") == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KernelsUnavailableError(f"the kernels cannot be stored in {folder} ({error.strerror})") from error
    _refuse_strangers(folder)


def _refuse_strangers(place: Path) -> None:
    """Check that nobody else can have put code there."""
    if not hasattr(os, "geteuid"):
        return
    found = place.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise KernelsUnavailableError(
            f"{place} belongs to or can be written by others: remove it, and it will be created again"
        )


def _build(compiler: list[str], sources: dict[str, str], path: Path) -> None:
    import tempfile

    try:
        with tempfile.TemporaryDirectory() as folder, atomic_path(path) as partial:
            for name, text in sources.items():
                (Path(folder) / name).write_text(text, "utf-8")
            files = [str(Path(folder) / name) for name in sources if name.endswith(".c")]
            _run([*compiler, *_FLAGS, _target(), *files, "-o", str(partial), "-lm"], "building the kernels")
            # Whatever the user's umask is.
            partial.chmod(0o755)
        with atomic_path(_digest_of(path)) as partial:
            partial.write_text(hashlib.sha256(path.read_bytes()).hexdigest(), "ascii")
    except OSError as error:
        raise KernelsUnavailableError(f"the kernels cannot be stored in {path.parent} ({error.strerror})") from error


def _run(command: list[str], doing: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS, cwd=cwd)
    except subprocess.CalledProcessError as error:
        line = next((text for text in error.stderr.splitlines() if "error" in text), error.stderr.strip()[-200:])
        raise KernelsUnavailableError(f"{doing} failed: {line}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailableError(f"{doing} failed ({error})") from error
