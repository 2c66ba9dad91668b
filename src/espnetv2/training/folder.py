"""The folder of a run: its files, and how they are written."""

from __future__ import annotations

import csv
import errno
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from espnetv2.data.layouts.common import read_text
from espnetv2.errors import UserError
from espnetv2.files import PARTIAL, atomic_path
from espnetv2.info import ModelInfo
from espnetv2.training.recipe import Recipe, differences, parse_recipe

INFO_KEY = "espnetv2"
_STATE = ("state_dict", "optimizer", "precision", "step", "pictures", "data", "best", "best_figure", INFO_KEY)
_WRITTEN = "# The recipe of this run, every key in place; written by espnetv2 train.\n"
_DOES_NOT_FIT = "Error(s) in loading state_dict for "
_FAILED_WRITES = ("No space", "file write failed", "unexpected pos", "PytorchStreamWriter failed")
Row = dict[str, float]
log = logging.getLogger(__name__)


class RunFolder:
    """``recipe.yaml``, ``metrics.csv``, ``last.ckpt``, ``best.safetensors``, plots, samples, TensorBoard's events.

    Args:
        path: the folder, which does not have to exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.csv"
        self.last = path / "last.ckpt"
        self.best = path / "best.safetensors"
        self.curves = path / "curves.png"
        self.confusion = path / "confusion.png"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training in this folder, as when a job was submitted twice.

        Some network file systems have no locks; there it does nothing.

        Raises:
            UserError: another one does already.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"another process is training in {self.path}: wait for it, or choose another --out") from None
        except (NotImplementedError, OSError) as error:
            log.debug("%s cannot be locked: %s", self.path, error)
        try:
            yield
        finally:
            lock.release()

    def stamp(self) -> tuple[int, int] | None:
        """When ``last.ckpt`` was written, and its size; None if there is none."""
        try:
            found = self.last.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def check_unchanged(self, before: tuple[int, int] | None) -> None:
        """Check that no other process has saved a run here since ``before``, a ``stamp``.

        Raises:
            UserError: one has.
        """
        if self.stamp() != before:
            raise UserError(f"another process has trained in {self.path} since this one started: start it again")

    def tidy(self) -> None:
        """Remove partial files left by a killed process."""
        for path in self.path.glob(f"{PARTIAL}*"):
            path.unlink(missing_ok=True)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write the resolved recipe."""
        with writing(self.path), atomic_path(self.recipe) as path:
            path.write_text(_WRITTEN + recipe.to_yaml(), encoding="utf-8")

    def foreign_file(self) -> Path | None:
        """A file that a run would overwrite and that no run has written, if there is one."""
        if self.last.exists():
            return None
        if self.recipe.is_file():
            return None if read_text(self.recipe).startswith(_WRITTEN) else self.recipe
        return next((path for path in (self.metrics, self.curves, self.confusion, self.samples) if path.exists()), None)

    def check_recipe(self, recipe: Recipe) -> None:
        """Check that ``recipe`` is the one that the run was started with.

        Raises:
            UserError: it is not; the message says what changed.
        """
        if not self.recipe.is_file():
            return
        before = parse_recipe(read_text(self.recipe), str(self.recipe))
        if changed := differences(before, recipe):
            raise UserError(
                f"the recipe differs from that of {self.path} ({'; '.join(changed)}): use the original one, or another --out"
            )

    def save(self, state: dict[str, Any], info: ModelInfo) -> None:
        """Replace ``last.ckpt``; the old one stays until the new one is complete.

        Raises:
            UserError: the disk is full or the folder cannot be written to.
        """
        with writing(self.path), atomic_path(self.last, durable=True) as path:
            torch.save({**state, INFO_KEY: info.model_dump_json()}, path)

    def load(self) -> dict[str, Any]:
        """Read ``last.ckpt``.

        Raises:
            UserError: it is damaged.
        """
        try:
            kept = torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(
                f"{self.last} is damaged ({type(error).__name__}): start the run again in another folder"
            ) from error
        if not isinstance(kept, dict) or not kept.keys() >= set(_STATE):
            raise UserError(f"{self.last} is not the checkpoint of a run: start the run again in another folder")
        return kept

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn a part missing in ``last.ckpt`` into a clear message."""
        try:
            yield
        except (KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith(_DOES_NOT_FIT):
                raise
            reason = " ".join(str(error).removeprefix(_DOES_NOT_FIT).split())[:200]
            raise UserError(
                f"{self.last} does not hold what this run needs ({reason}): start the run again in another folder"
            ) from error


class MetricsFile:
    """``metrics.csv``: a row per optimizer step, and one with the metrics per validation.

    Args:
        path: the file.
        columns: in order.
        step: rows beyond this step are dropped, since they will be computed again.
    """

    def __init__(self, path: Path, columns: list[str], step: int) -> None:
        self._path = path
        self._columns = columns
        self.rows = [row for row in read_metrics(path) if row["step"] <= step] if path.is_file() else []
        with writing(path.parent), atomic_path(path) as partial:
            partial.write_text(self._text(self.rows, header=True), encoding="utf-8")

    def append(self, rows: list[Row]) -> None:
        """Append rows.

        Raises:
            UserError: the disk is full.
        """
        self.rows += rows
        with writing(self._path.parent), self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text(rows, header=False))

    def _text(self, rows: list[Row], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def read_metrics(path: Path) -> list[Row]:
    """The rows of a ``metrics.csv``, without empty cells; a truncated last line is skipped.

    Raises:
        UserError: another program has saved it in another form.
    """
    rows = []
    reader = csv.DictReader(io.StringIO(read_text(path)))
    if reader.fieldnames is not None and not {"epoch", "step"} <= set(reader.fieldnames):
        raise UserError(f"{path} has no columns epoch and step, separated by commas: put the original back, or remove it")
    for cells in reader:
        if None in cells or any(value is None for value in cells.values()):
            continue
        try:
            row = {key: float(value) for key, value in cells.items() if value}
        except ValueError:
            continue
        if {"epoch", "step"} <= row.keys():
            rows.append({**row, "epoch": int(row["epoch"]), "step": int(row["step"])})
    return rows


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or another write error into a clear message."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError without the reason.
        failed = isinstance(error, RuntimeError) and any(text in str(error) for text in _FAILED_WRITES)
        full = getattr(error, "errno", None) == errno.ENOSPC or failed
        if isinstance(error, RuntimeError) and not failed:
            raise
        reason = "the disk is full" if full else str(error)
        raise UserError(
            f"cannot write to {folder} ({reason}): free some space and resume with the same command and --resume; "
            "the files saved before are intact"
        ) from error
