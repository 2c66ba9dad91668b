"""Suppress third-party output, from Python and from C."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO

STDOUT, STDERR = 1, 2
_ALONE = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """No logs below an error, no warnings, nothing on the process's standard output and error. Errors are raised as usual.

    One thread at a time: the streams belong to the process, and two overlapping threads would leave them silenced. This also
    makes deserialisers that keep their state in globals safe inside, such as torch's for programs.
    """
    with _ALONE:
        before = logging.root.manager.disable
        logging.disable(max(before, logging.WARNING))
        try:
            with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), _silenced():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(before)


@contextmanager
def _silenced() -> Iterator[None]:
    kept = {}
    for stream in (STDOUT, STDERR):
        # A closed stream prints nothing.
        with suppress(OSError):
            kept[stream] = os.dup(stream)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in kept:
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
