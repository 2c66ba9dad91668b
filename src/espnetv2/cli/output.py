"""Console output of the commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

WIDE = 160


def stdout(*, wide: bool = False) -> Console:
    """Console for results, created on each use so that it follows a redirected stream.

    Args:
        wide: for tables: if the output is not a terminal, be as wide as any table here needs.
    """
    # A name between colons must not become an emoji.
    console = Console(emoji=False)
    return Console(width=WIDE, emoji=False) if wide and not console.is_terminal else console


def stderr() -> Console:
    """Console for progress and messages."""
    return Console(stderr=True, emoji=False)


class LogToStderr(logging.Handler):
    """Prints log lines on whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        print(f"espnetv2: {record.getMessage()}", file=sys.stderr)


def print_json(answer: Any) -> None:
    """Print one JSON document on standard output."""
    json.dump(answer, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a one-line error message and exit."""
    line = " ".join(message.split())
    print(f"espnetv2: error: {line}", file=sys.stderr)
    sys.exit(code)


def progress_bar(*, hidden: bool = False) -> Progress:
    """A progress bar with count, elapsed and remaining time, on standard error if that is a terminal."""
    console = stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )
