"""The processes that load images: how many, how they are started, and how they end."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial

from espnetv2.cores import usable_cores
from espnetv2.errors import UserError
from espnetv2.training.recipe import Recipe

MOST_WORKERS = 8
# A socket's path has at most 107 characters on Linux and 103 elsewhere. Python adds 32: /pymp-12345678/listener-12345678.
LONGEST_TEMPORARY = 75 if sys.platform == "linux" else 71


def worker_count(recipe: Recipe) -> int:
    """Number of data loading processes."""
    return min(usable_cores(), MOST_WORKERS) if recipe.workers is None else recipe.workers


def check_workers(recipe: Recipe) -> None:
    """Check that data loading processes can send images: their sockets lie in the folder for temporary files.

    Raises:
        UserError: its path is too long for sockets, for which the processes would wait without a word.
    """
    folder = tempfile.gettempdir()
    if worker_count(recipe) and sys.platform != "win32" and len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        raise UserError(
            f"the folder for temporary files, {folder}, has a path of more than {LONGEST_TEMPORARY} characters, too long for "
            "data loading processes: set TMPDIR to a shorter one, or work without such processes (--set workers=0)"
        )


def context(recipe: Recipe) -> str | None:
    """How the processes are started; None for the system's way."""
    # Forked workers start at once and notice when their parent is killed; those of a fork server survive as orphans.
    return "fork" if worker_count(recipe) and sys.platform == "linux" else None


def outlast_signals(recipe: Recipe) -> Callable[[int], None] | None:
    """For the loader's processes: the end of a job or Ctrl-C also reaches them, and without them the run could not save."""
    if not worker_count(recipe):
        return None
    leaving = multiprocessing.get_context(context(recipe)).RawValue(ctypes.c_bool, False)
    # On exit, Python terminates the processes with the same signal that they have ignored until then.
    atexit.register(setattr, leaving, "value", True)
    return partial(_ignore_until, leaving)


def _ignore_until(leaving: ctypes.c_bool, _: int) -> None:
    inherited = _temporary_folder()

    def leave(*_: object) -> None:
        if leaving.value:
            if (folder := _temporary_folder()) is not None and folder != inherited:
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)


def _temporary_folder() -> str | None:
    """The folder in which this process shares tensors, if there is one. Python removes it unless the process ends abruptly."""
    folder: str | None = getattr(multiprocessing.current_process(), "_config", {}).get("tempdir")
    return folder
