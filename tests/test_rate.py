"""A rate is that of the last minutes, whatever was before."""

from __future__ import annotations

import pytest

from gateway.rate import SPAN, Rate


def test_a_rate_is_that_of_the_last_minutes() -> None:
    """What was counted longer ago than the span has no part in it."""
    rate = Rate()
    count = 0
    for second in range(1000):
        count += 100 if second < 600 else 3
        rate.note(float(second), count)
    assert rate.per_second(1000.0, count) == pytest.approx(3, rel=0.05)
    assert rate.per_second(1000.0, count + 10_000) == pytest.approx(3 + 10_000 / SPAN, rel=0.05)


def test_a_rate_takes_a_few_seconds() -> None:
    """At the beginning there is none."""
    rate = Rate()
    assert rate.per_second(0.0, 5) is None
    rate.note(0.0, 5)
    assert rate.per_second(1.0, 6) is None
    rate.note(1.0, 6)
    assert rate.per_second(10.0, 25) == 2.0
