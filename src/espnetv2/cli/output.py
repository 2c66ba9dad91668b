"""Console output of the commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

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


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> list[str]:
    """Print a table on standard output, without the columns that a narrow terminal would make it truncate.

    Args:
        columns: with titles.
        rows: a cell per column.
        spare: titles of columns that may be left out, the least important first.

    Returns:
        The titles of the printed columns.
    """
    console = stdout(wide=True)
    unlimited = console.options.update(width=sys.maxsize)
    titles = [str(column.header) for column in columns]
    spared = [title for title in spare if title in titles]
    for count in range(len(spared) + 1):
        shown = [index for index, title in enumerate(titles) if title not in spared[:count]]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for index in shown:
            table.add_column(titles[index], justify=columns[index].justify, no_wrap=True)
        for row in rows:
            table.add_row(*(Text(row[index]) for index in shown))
        if console.measure(table, options=unlimited).maximum <= console.width:
            break
    console.print(table)
    if count:
        note = f"no room for {', '.join(spared[:count])}: use a wider terminal or --json"
        console.print(note, style="dim", highlight=False)
    return [titles[index] for index in shown]


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
