"""Suppress what other libraries print, in Python and in C, where Python cannot stop them."""

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
    """No log below an error, no warning, nothing on this process's standard output and error. Errors are raised as ever.

    One thread at a time: the streams are the process's, and two that overlapped would leave them silenced. Deserialisers that
    keep their state in globals, such as torch's of programs, are safe inside, too.
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
        # One that is closed says nothing.
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
