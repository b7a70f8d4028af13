"""Which broker next: a pure decision."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import Backoff
from gateway.uplink.hunt import Hunt, Mode


def longest(low: float, high: float) -> float:
    return high


def test_the_most_preferred_broker_comes_first() -> None:
    """At the start every broker may be tried, in the order of the config."""
    assert Hunt(3, 1, 60).next(0.0) == (0, 0.0)


def test_a_failure_leads_to_the_next_at_once() -> None:
    """Failover does not wait: only the broker that failed is left alone for a while."""
    hunt = Hunt(3, 1, 60, uniform=longest)
    hunt.failed(0, 10.0)
    assert hunt.next(10.0) == (1, 0.0)
    hunt.failed(1, 10.0)
    assert hunt.next(10.0) == (2, 0.0)


def test_when_all_have_failed_the_soonest_is_waited_for() -> None:
    """Nobody is hammered: each broker's own back-off doubles."""
    hunt = Hunt(2, 1, 60, uniform=longest)
    hunt.failed(0, 0.0)
    hunt.failed(0, 1.0)  # not before 3
    hunt.failed(1, 1.0)  # not before 2
    assert hunt.next(1.0) == (1, 1.0)
    assert hunt.next(2.0) == (1, 0.0)
    assert hunt.next(3.0) == (0, 0.0)


def test_a_better_broker_is_looked_for_among_the_better_ones_only() -> None:
    """Failback never goes to a worse broker."""
    hunt = Hunt(3, 1, 60, uniform=longest)
    hunt.failed(0, 0.0)
    assert hunt.next(0.5, below=2) == (1, 0.0)
    assert hunt.next(0.5, below=1) == (0, 0.5)


def test_an_acknowledged_reading_resets_the_back_off() -> None:
    """A broker that carried something is tried again soon."""
    hunt = Hunt(1, 1, 60, uniform=longest)
    for _ in range(5):
        hunt.failed(0, 0.0)
    assert hunt.next(0.0) == (0, 16.0)
    hunt.proven(0)
    hunt.failed(0, 0.0)
    assert hunt.next(0.0) == (0, 1.0)


@given(st.floats(0.001, 10), st.floats(10, 1000), st.integers(1, 2000))
def test_delays_have_full_jitter_and_a_ceiling(first: float, ceiling: float, attempts: int) -> None:
    """Any delay between nothing and the ceiling may come; the ceiling doubles and never passes the longest."""
    asked: list[tuple[float, float]] = []
    backoff = Backoff(first, ceiling, uniform=lambda low, high: asked.append((low, high)) or low)
    for _ in range(min(attempts, 50)):
        backoff.next()
    assert all(low == 0.0 for low, _ in asked)
    highs = [high for _, high in asked]
    assert highs[0] == min(first, ceiling)
    assert all(b == min(ceiling, 2 * a) or b == ceiling for a, b in pairwise(highs))


@pytest.mark.parametrize("mode", ["hunt", "equal"])
def test_a_broker_that_another_one_names_is_next(mode: Mode) -> None:
    """A hint comes before any order and any pause, once: it may be wrong."""
    hunt = Hunt(3, 1.0, 10.0, mode=mode, uniform=lambda low, high: high)
    hunt.failed(2, now=0.0)
    hunt.failed(0, now=0.0)
    hunt.hinted(2)
    assert hunt.next(0.0) == (2, 0.0)
    assert hunt.next(0.0, below=2) == (1, 0.0), "not where a better one is looked for"
    hunt.failed(2, now=0.0)
    assert hunt.next(0.0) == (1, 0.0)


def test_brokers_that_name_each_other_are_not_hammered() -> None:
    """Each hint is followed once, and then the pauses hold again, until something was acknowledged."""
    hunt = Hunt(2, 1.0, 10.0, uniform=lambda low, high: high)
    for _ in range(3):
        index, _ = hunt.next(0.0)
        hunt.failed(index, now=0.0)
        hunt.hinted(1 - index)
    assert hunt.next(0.0)[1] > 0
    hunt.proven(0)
    hunt.hinted(1)
    assert hunt.next(0.0) == (1, 0.0)


@pytest.mark.parametrize("mode", ["hunt", "equal"])
def test_a_short_pause_is_no_reason_to_go_back(mode: Mode) -> None:
    """Full jitter may give no pause at all: the other brokers are tried first all the same, each in its turn."""
    hunt = Hunt(3, 1.0, 10.0, mode=mode, uniform=lambda low, high: low)
    for _ in range(3):
        for index in range(3):
            assert hunt.next(0.0) == (index, 0.0)
            hunt.failed(index, now=0.0)
