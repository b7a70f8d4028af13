"""The schedule of devices that are asked regularly: a grid without drift, and devices that do not all speak at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.schedule import following, spread

STARTS = st.floats(min_value=0, max_value=1e8)
INTERVALS = st.floats(min_value=0.01, max_value=1e5)


@given(start=STARTS, interval=INTERVALS, late=st.floats(min_value=0, max_value=1e6))
def test_the_next_turn_is_later_than_now_by_an_interval_at_most(start: float, interval: float, late: float) -> None:
    """No turn is in the past, and none that could be kept is left out."""
    now = start + late
    due = following(start, interval, now)
    assert now < due
    assert due - now <= interval * (1 + 1e-6) + 1e-6


@given(start=STARTS, interval=st.integers(1, 3600), takes=st.lists(st.floats(0, 0.9), min_size=1, max_size=50))
def test_turns_do_not_drift(start: float, interval: int, takes: list[float]) -> None:
    """However long the turns take, turn n is n intervals after the first, as long as each fits its interval."""
    now = start
    for take in takes:
        now = following(start, interval, now + take * interval)
    assert now == start + len(takes) * interval


def test_what_was_missed_is_left_out() -> None:
    """A machine that slept for an hour does not ask sixty times at once afterwards, and keeps its grid."""
    assert following(100.0, 60.0, 100.0) == 160.0
    assert following(100.0, 60.0, 159.9) == 160.0
    assert following(100.0, 60.0, 160.0) == 220.0
    assert following(100.0, 60.0, 100.0 + 3600 + 1) == 100.0 + 3660
    assert following(100.0, 60.0, 50.0) == 160.0


@given(name=st.text(), interval=INTERVALS)
def test_a_device_waits_the_same_time_at_every_start(name: str, interval: float) -> None:
    """The place of a device on the grid is its own, within an interval and a second."""
    assert 0 <= spread(name, interval) < min(interval, 1.0)
    assert spread(name, interval) == spread(name, interval)


def test_devices_are_spread() -> None:
    """Twenty devices that are asked each second are not asked in the same tenth of it."""
    assert len({int(spread(f"meter-{number}", 1.0) * 10) for number in range(20)}) >= 5
