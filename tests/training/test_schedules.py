from __future__ import annotations

import pytest

from espnetv2.training.recipe import Schedule
from espnetv2.training.schedules import cosine, cyclic, hybrid, learning_rate, polynomial

HALVED = {51: 0.05, 101: 0.025, 131: 0.0125, 161: 0.00625, 191: 0.003125, 221: 0.0015625, 251: 0.00078125, 281: 0.000390625}


def test_the_imagenet_schedule_epoch_by_epoch() -> None:
    """0.1, then 0.5 0.4 0.3 0.2 0.1 over and over, all of it halved at the published epochs."""
    base, expected = 0.1, [0.1]
    for epoch in range(1, 300):
        base = HALVED.get(epoch, base)
        expected.append(round(base * (5, 4, 3, 2, 1)[(epoch - 1) % 5], 5))
    assert [cyclic(0.1, epoch) for epoch in range(300)] == expected
    assert expected[:7] == [0.1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.5]
    assert expected[51:56] == [0.25, 0.2, 0.15, 0.1, 0.05]
    assert expected[281] == 0.00195


def test_a_smaller_base_keeps_its_digits() -> None:
    for base in (0.01, 1e-4, 1e-7):
        assert [cyclic(base, epoch) / base for epoch in (0, 1, 299)] == pytest.approx([1, 5, 0.0078125], rel=1e-2)


def test_the_hybrid_schedule() -> None:
    found = [hybrid(0.009, epoch, 100) for epoch in range(100)]
    assert found[:7] == [0.009, 0.045, 0.036, 0.027, 0.018, 0.009, 0.045]
    assert found[60] == 0.009
    assert found[61] == pytest.approx(0.008775, abs=1e-12)
    assert found[99] == pytest.approx(0.000225, abs=1e-12)


def test_the_polynomial_schedule() -> None:
    assert polynomial(5e-4, 0, 300, 0.9) == 5e-4
    assert polynomial(5e-4, 150, 300, 0.9) == pytest.approx(5e-4 * 0.5**0.9)
    assert polynomial(5e-4, 299, 300, 0.9) == pytest.approx(5e-4 * (1 / 300) ** 0.9)


def test_the_cosine_schedule() -> None:
    assert cosine(1.0, 0, 10, 0.1) == 1.0
    assert cosine(1.0, 5, 10, 0.1) == pytest.approx(0.55)
    assert cosine(1.0, 10, 10, 0.1) == pytest.approx(0.1)


def test_steps_epochs_and_warm_up() -> None:
    per_epoch = learning_rate(Schedule(name="poly", per="epoch"), 1.0, 10, 4)
    assert per_epoch(0) == per_epoch(3) == 1.0
    assert per_epoch(4) == pytest.approx(0.9**0.9)
    warm = learning_rate(Schedule(name="constant", warmup_epochs=2), 1.0, 10, 4)
    assert [warm(step) for step in (0, 3, 7, 8, 30)] == [0.125, 0.5, 1.0, 1.0, 1.0]
