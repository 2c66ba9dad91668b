"""The program ``espnetv2``: its commands and the handling of errors."""

from __future__ import annotations

import errno
import io
import logging
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from espnetv2 import __version__
from espnetv2.cli import benchmark, check_data, evaluate, export, models, predict, train
from espnetv2.cli.output import LogToStderr, fail
from espnetv2.errors import UserError, is_out_of_memory
from espnetv2.signals import ENDING, must_stay_ignored

INTERRUPTED = 130
"""What typer returns after a ``KeyboardInterrupt``."""

app = typer.Typer(
    name="espnetv2",
    help="Light-weight networks for image classification and semantic segmentation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="predict")(predict.predict)
app.command(name="train")(train.train)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="export")(export.export)
app.command(name="benchmark")(benchmark.benchmark)
app.command(name="check-data")(check_data.check_data)
app.command(name="models")(models.models)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Light-weight networks for image classification and semantic segmentation."""


def _show_log() -> None:
    """Show the package's log, such as a wait or a slower fallback, on standard error."""
    logger = logging.getLogger("espnetv2")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, LogToStderr) for handler in logger.handlers):
        logger.addHandler(LogToStderr())


def _print_anything() -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing on them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _stop_as_after_ctrl_c(received: list[int]) -> None:
    """Let no part of a file stay behind after the end of a job or a connection. Training has handlers of its own."""

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        # Signals come twice when a terminal is closed, and the second must not interrupt the clean-up.
        if len(received) == 1:
            raise KeyboardInterrupt

    for number in ENDING:
        if not must_stay_ignored(number, signal.getsignal(number)):
            signal.signal(number, stop)


def main() -> None:
    """Run the command line and exit: 0 done, 1 partly done, 2 user error, 128 + the signal's number if it was stopped."""
    _show_log()
    _print_anything()
    received: list[int] = []
    _stop_as_after_ctrl_c(received)
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        fail(str(error))
    except typer.TyperException as error:
        # Without any argument the help has already been printed, and there is nothing to add.
        sys.exit(2) if not error.format_message() else fail(error.format_message().replace("Value error, ", ""))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "safetensors"):
            raise
        fail(f"this requires {error.name}, which is not installed: pip install {error.name}, or use an exported model file")
    except BrokenPipeError:
        sys.exit(1)
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            fail("out of memory: use a smaller size or batch")
        if not isinstance(error, OSError):
            raise
        if received:
            # The terminal may be gone, too.
            sys.exit(128 + received[0])
        if error.errno in (errno.ENOSPC, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)):
            fail(f"cannot write any more ({error.strerror}): free some space, or choose another --out")
        if error.filename is None:
            raise
        fail(f"{error.filename}: cannot be accessed ({error.strerror}): check its name and permissions")
    if code == INTERRUPTED or received:
        code = 128 + received[0] if received else INTERRUPTED
        with suppress(OSError):
            print("espnetv2: interrupted", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)
