from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from espnetv2.runtimes.quiet import quiet


def _chatter() -> None:
    print("python")
    print("python", file=sys.stderr)
    os.write(1, b"C\n")
    os.write(2, b"C\n")
    logging.getLogger("chatty").warning("log")
    warnings.warn("warning", stacklevel=1)


def test_nothing_is_heard_within_and_everything_after(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        _chatter()
    assert tuple(capfd.readouterr()) == ("", "")
    os.write(1, b"after\n")
    print("too", file=sys.stderr)
    assert tuple(capfd.readouterr()) == ("after\n", "too\n")


def test_errors_come_through_and_sound_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="reason"), quiet():
        raise ValueError("reason")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there a child's streams cannot be closed before it starts")
def test_streams_that_are_closed() -> None:
    program = "from espnetv2.runtimes.quiet import quiet\nwith quiet(): pass"
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, program], check=True)
