"""The target of an export: checked before any work, and replaced only by a complete file."""

from __future__ import annotations

from pathlib import Path

from espnetv2.errors import UserError
from espnetv2.exporting.formats import Format
from espnetv2.runtimes.description import KEY


def check_target(out: Path, found: Format) -> None:
    """Check that a file of the format may be written there.

    Raises:
        UserError: something else is already there.
    """
    if not out.exists() and not out.is_symlink():
        beside = next((path for path in _beside(out, found) if path.exists()), None)
        if beside is not None:
            raise UserError(f"{out}: {beside.name} already exists and would be replaced: choose another name")
        return
    if found.mark is None:
        taken = next((path for path in (out, *_beside(out, found)) if path.is_dir()), None)
        if taken is not None:
            raise UserError(f"{out}: {taken} is already a folder: choose another name")
        content = out.read_bytes()
        if content and KEY.encode() not in content:
            raise UserError(f"{out} already exists and was not exported by this program: choose another name")
    elif out.is_symlink() or not out.is_dir():
        raise UserError(f"{out} is already a {'link' if out.is_symlink() else 'file'}: choose another name")
    elif any(out.iterdir()) and not (out / found.mark).is_file():
        raise UserError(f"{out} is a folder that is not in {found.title} format: choose another name")


def keep(folder: Path, out: Path) -> None:
    """Move everything that was written to ``folder``, which is beside ``out``, to its place, the file itself last."""
    written = sorted(folder.iterdir(), key=lambda path: path.name == out.name)
    for path in written:
        target, old = out.parent / path.name, folder / f"{path.name}.old"
        if not target.is_dir():
            path.replace(target)
            continue
        target.rename(old)
        try:
            path.rename(target)
        except OSError:
            old.rename(target)
            raise


def file_size(out: Path, found: Format) -> int:
    """Bytes of a file and its additional files, or of a folder."""
    if found.mark is not None:
        return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return sum(path.stat().st_size for path in (out, *_beside(out, found)))


def _beside(out: Path, found: Format) -> list[Path]:
    return [out.with_suffix(suffix) for suffix in found.beside]
