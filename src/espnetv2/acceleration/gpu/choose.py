"""Choose the fastest of several equivalent functions: measured once, remembered on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnetv2.errors import kind_and_first_line
from espnetv2.files import atomic_path, user_cache

_TURNS = 7

Function = Callable[[Tensor], Tensor]
Clock = Callable[[Function, Tensor], float]

log = logging.getLogger(__name__)


def choose(
    key: Mapping[str, Any],
    candidates: Mapping[str, Callable[[], Function]],
    image: Tensor,
    is_right: Callable[[Tensor], bool],
    clock: Clock,
) -> tuple[str, Function]:
    """The fastest candidate for ``image`` whose output is correct.

    An earlier choice under the same ``key`` is reused, after a check of its output.

    Args:
        key: everything that the choice depends on.
        candidates: name -> function that builds it. The first one is assumed to be correct.
        image: to try them on.
        is_right: whether an output for ``image`` is correct.
        clock: seconds, or any measure of them, that a function takes for the image.

    Returns:
        its name, and the function.
    """
    remembered = _remembered(key)
    if remembered is not None and remembered in candidates:
        found = _built(remembered, candidates[remembered], image, is_right)
        if found is not None:
            return remembered, found
    first = next(iter(candidates))
    built = {first: candidates[first]()}
    for name, build in list(candidates.items())[1:]:
        found = _built(name, build, image, is_right)
        if found is not None:
            built[name] = found
    times = _measured(built, image, clock)
    best = min(times, key=lambda name: times[name], default=first)
    log.info("%s is the fastest here: %s", best, ", ".join(f"{name} {1e3 * time:.2f} ms" for name, time in times.items()))
    _remember(key, best, times)
    return best, built[best]


def _built(name: str, build: Callable[[], Function], image: Tensor, is_right: Callable[[Tensor], bool]) -> Function | None:
    """The candidate, or None if it is not available here or gives a wrong output."""
    # Anything may fail in a compiler or a driver, and a slower candidate works.
    try:
        function = build()
        if is_right(function(image)):
            return function
        log.warning("%s gives a different output here, so it is not used", name)
    except Exception as error:
        log.warning("%s cannot be used here (%s)", name, kind_and_first_line(error))
    free_memory()
    return None


def _measured(built: Mapping[str, Function], image: Tensor, clock: Clock) -> dict[str, float]:
    """Medians of turns, so that drifting speed of the machine favours none; a candidate that fails is dropped."""
    times: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(_TURNS):
        for name in list(times):
            time = _timed(name, built[name], image, clock)
            if time is None:
                del times[name]
            else:
                times[name].append(time)
    return {name: statistics.median(measured) for name, measured in times.items()}


def _timed(name: str, function: Function, image: Tensor, clock: Clock) -> float | None:
    try:
        return clock(function, image)
    except RuntimeError as error:
        log.warning("%s cannot be used here (%s)", name, kind_and_first_line(error))
    free_memory()
    return None


def free_memory() -> None:
    """Release what a failed function held, so that the next does not fail for lack of memory."""
    if torch.cuda.is_available():
        # After a failed capture, torch before 2.12 cannot.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def _path(key: Mapping[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return user_cache("choices") / f"{name}.json"


def _remembered(key: Mapping[str, Any]) -> str | None:
    try:
        kept = json.loads(_path(key).read_text("utf-8"))
        return str(kept["choice"]) if kept["key"] == dict(key) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(key: Mapping[str, Any], choice: str, times: Mapping[str, float]) -> None:
    try:
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            partial.write_text(json.dumps({"key": dict(key), "choice": choice, "seconds": dict(times)}, indent=1), "utf-8")
    except OSError as error:
        log.info("the choice cannot be saved (%s)", error)
