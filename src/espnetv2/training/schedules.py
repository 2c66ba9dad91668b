"""Learning rates as functions of the step alone, so that a run resumes exactly without any scheduler state."""

from __future__ import annotations

import math
from collections.abc import Callable

from espnetv2.training.recipe import Schedule

CYCLE = 5
HYBRID_SWITCH = 61
_HALVED_AT = (51, 101, 131, 161, 191, 221, 251, 281)


def cyclic(base: float, epoch: int, halved_at: tuple[int, ...] = _HALVED_AT) -> float:
    """The authors' cyclic schedule with warm restarts: the base in epoch 0, then repeatedly from 5 times the base down.

    The base is halved at the epochs ``halved_at``. Paper, section 4.1; rounded to five decimals as published, for bases below
    theirs of 0.1 to as many more as keep their digits.
    """
    decimals = 4 - min(-1, math.floor(math.log10(base)))
    current = base * 0.5 ** sum(epoch >= start for start in halved_at)
    return base if epoch == 0 else round(current * (CYCLE - (epoch - 1) % CYCLE), decimals)


def hybrid(base: float, epoch: int, epochs: int) -> float:
    """The authors' schedule for segmentation: cyclic without halving up to epoch 60, then linear to zero."""
    if epoch < HYBRID_SWITCH:
        return cyclic(base, epoch, ())
    return base * (1 - (epoch - HYBRID_SWITCH + 1) / (epochs - HYBRID_SWITCH + 1))


def polynomial(base: float, position: float, epochs: int, power: float) -> float:
    """``base · (1 - position / epochs) ** power``, ``position`` in epochs."""
    return base * math.pow(max(0.0, 1 - position / epochs), power)


def cosine(base: float, position: float, epochs: int, final: float) -> float:
    """Half a cosine from ``base`` to ``final · base``, ``position`` in epochs."""
    return base * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, position / epochs))))


def learning_rate(schedule: Schedule, base: float, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate of every optimizer step, counted from 0.

    ``cyclic`` and ``hybrid`` change once an epoch, as published; so do ``poly`` and ``cosine`` if ``per`` is ``epoch``.
    """
    warmup = schedule.warmup_epochs * steps_per_epoch

    def rate(step: int) -> float:
        epoch = step // steps_per_epoch
        position = float(epoch) if schedule.per == "epoch" else step / steps_per_epoch
        if schedule.name == "cyclic":
            found = cyclic(base, epoch)
        elif schedule.name == "hybrid":
            found = hybrid(base, epoch, epochs)
        elif schedule.name == "poly":
            found = polynomial(base, position, epochs, schedule.power)
        elif schedule.name == "cosine":
            found = cosine(base, position, epochs, schedule.final)
        else:
            found = base
        return found * min(1.0, (step + 1) / warmup) if warmup else found

    return rate
