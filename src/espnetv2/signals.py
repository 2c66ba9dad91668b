"""The signals that end a job or a connection."""

from __future__ import annotations

import signal

# Sent when the connection is lost; Windows has no such signal.
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)
ENDING = (signal.SIGTERM, *([_HANG_UP] if _HANG_UP is not None else []))


def must_stay_ignored(number: int, handler: object) -> bool:
    """Whether ``handler``, the present one, is nohup's, under which a command must outlive its terminal."""
    return number == _HANG_UP and handler == signal.SIG_IGN
