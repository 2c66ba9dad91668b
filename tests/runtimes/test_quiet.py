from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
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


def test_threads_that_overlap_leave_the_streams_as_they_were() -> None:
    before = sys.stdout, logging.root.manager.disable, os.fstat(1).st_ino
    inside = threading.Event()

    def first() -> None:
        with quiet():
            inside.set()
            time.sleep(0.05)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with quiet():
        thread.join(0.2)
    thread.join()
    assert (sys.stdout, logging.root.manager.disable, os.fstat(1).st_ino) == before
