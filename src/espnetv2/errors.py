"""Errors that the user can fix. The command line prints them as one line and exits with 2."""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_NO_MEMORY = "not enough memory|out of memory|[Cc]an(no|')t allocate memory|[Ff]ailed to allocate"


class UserError(ValueError):
    """Invalid input from the user. The message names the value, the reason and the fix."""


class MissingPackageError(UserError):
    """An optional package is missing.

    Args:
        package: the package that could not be imported.
        extra: the extra of ``espnetv2`` that installs it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._given = (package, extra, purpose)
        # On an edge board without torch, an extra would install torch, too.
        fix = f"pip install '.[{extra}]' in a checkout of espnetv2" if find_spec("torch") else f"pip install {package}"
        super().__init__(f"{purpose} requires the package {package}, which is not installed: {fix}")

    def __reduce__(self) -> tuple[type[MissingPackageError], tuple[str, str, str]]:
        """Pickle the arguments: by default, another process would rebuild the error from its message."""
        return type(self), self._given


def first_line(error: Exception) -> str:
    """The first line of another library's error message, at most 200 characters of it."""
    return str(error).strip().partition("\n")[0][:200]


def kind_and_first_line(error: Exception) -> str:
    """Type and first line of another library's error, whose message alone may not be clear."""
    return f"{type(error).__name__}: {first_line(error)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the system, torch on a CPU or GPU, or another runtime ran out of memory."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # torch raises plain RuntimeErrors, ONNX Runtime exceptions of its own.
    return isinstance(error, Exception) and re.search(_NO_MEMORY, str(error)) is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name closest to ``name``, or all of them if none is close."""
    names = list(known)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f'did you mean "{match[0]}"?' if match else f"choose one of {', '.join(names)}"


def validation_message(error: ValidationError, known: Iterable[str]) -> str:
    """The first problem of a configuration in one line: where, what, and for an unknown key the nearest known one."""
    problems = error.errors()
    # Of several types that a key may have, the one that its value resembles most: pydantic got deepest into it.
    key = tuple(takewhile(lambda part: "[" not in str(part), problems[0]["loc"]))
    problem = max((one for one in problems if one["loc"][: len(key)] == key), key=lambda one: len(one["loc"]))
    # Which of several types was tried is an internal of pydantic.
    where = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))
    if problem["type"] == "extra_forbidden":
        return f'unknown key "{where}": {nearest(str(problem["loc"][-1]), known)}'
    reason = re.sub(r"a valid dictionary or instance of \w+", "keys with values", problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "tuple_type":
        reason = "must be a list, such as [0.5, 1.5]"
    reason = reason[:1].lower() + reason[1:]
    if not where:
        # An error about several keys together names them itself.
        return reason if isinstance(problem["input"], dict) else f"content: {reason} (found {reprlib.repr(problem['input'])})"
    if problem["type"] == "string_type" and isinstance(problem["input"], bool) and where.startswith("classes"):
        reason = 'YAML reads this as yes or no: put a name in quotes, as in "off"'
    shown = "" if problem["type"] == "missing" else f" (found {reprlib.repr(problem['input'])})"
    return f"{where}: {reason}{shown}"
