"""Pace: never faster than a broker allows, whatever the sender does with its allowance."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink.pace import Pace

rates = st.floats(0.1, 5000)


@dataclass
class Sender:
    """Sends all that it may, at once or after the wait it is told of, and remembers when it sent what."""

    pace: Pace
    now: float = 1000.0
    sent: list[tuple[float, int, int]] = field(default_factory=list)  # when, messages, bytes

    def send(self, idle: float, want: int, size: int) -> None:
        self.now += idle or self.pace.wait(self.now)
        count = min(want, self.pace.allowance(self.now))
        self.pace.spent(count, count * size, self.now)
        if count:
            self.sent.append((self.now, count, count * size))

    def most(self, kind: int, rate: float) -> float:
        """Return by how much more than `rate` times its length went in any interval of a second, or of ten messages."""
        sums = [0, *accumulate(one[kind] for one in self.sent)]
        times = [one[0] for one in self.sent]
        return max(
            sums[last + 1] - sums[first] - rate * max(1.0, 10 / rate, times[last] - times[first])
            for first in range(len(times))
            for last in range(first, len(times))
        )


steps = st.lists(
    st.tuples(st.just(0.0) | st.floats(0, 3), st.integers(1, 10_000), st.integers(1, 2000)), min_size=1, max_size=60
)


@given(rates, steps)
def test_messages_never_exceed_the_rate_in_any_interval(rate: float, moves: list[tuple[float, int, int]]) -> None:
    """In no second, and in no longer interval, goes more than the broker takes before it drops or hangs up.

    Where ten messages take longer than that, so long an interval counts.
    """
    sender = Sender(Pace(messages_per_second=rate))
    for idle, want, size in moves:
        sender.send(idle, want, size)
    assert not sender.sent or sender.most(1, rate) <= 1e-3


@given(rates, st.floats(1000, 1e6), steps)
def test_bytes_exceed_the_rate_by_one_allowance_at_most(
    rate: float, size_rate: float, moves: list[tuple[float, int, int]]
) -> None:
    """What went too fast, because nobody knew how large it would be, is waited for."""
    sender = Sender(Pace(rate, size_rate))
    for idle, want, size in moves:
        sender.send(idle, want, size)
    if sender.sent:
        assert sender.most(1, rate) <= 1e-3
        assert sender.most(2, size_rate) <= max(size for _, _, size in sender.sent) + 1e-3


@given(rates, st.none() | st.floats(1000, 1e6), steps)
def test_after_the_wait_a_message_may_go(
    rate: float, size_rate: float | None, moves: list[tuple[float, int, int]]
) -> None:
    """Nobody is woken for nothing, and nobody waits for ever."""
    sender = Sender(Pace(rate, size_rate))
    for idle, want, size in moves:
        sender.send(idle, want, size)
        wait = sender.pace.wait(sender.now)
        assert (wait == 0.0) == (sender.pace.allowance(sender.now) > 0)
        sender.now += wait
        assert sender.pace.allowance(sender.now) > 0
        assert sender.pace.wait(sender.now) == 0.0


def test_nine_tenths_of_the_rate_are_reached() -> None:
    """A sender that always has something is slowed down to little less than the rate, not to much less."""
    sender = Sender(Pace(messages_per_second=100))
    while sender.now < 1010.0:
        sender.send(0.0, 1000, 100)
    assert 900 <= sum(count for _, count, _ in sender.sent) <= 1000


def test_large_messages_go_fewer_at_a_time() -> None:
    """Once it is known how large messages are, an allowance has as many as the bytes allow."""
    pace = Pace(bytes_per_second=100_000)
    assert pace.allowance(0.0) == 10_000
    pace.spent(5, 10_000, 0.0)
    assert pace.allowance(0.0) == 0
    assert pace.allowance(0.1) == 4  # 9000 bytes, at 2000 each


def test_without_a_rate_everything_goes() -> None:
    """A broker without a rate costs nothing."""
    pace = Pace()
    assert pace.allowance(0.0) > 1 << 40
    pace.spent(1 << 20, 1 << 30, 0.0)
    assert (pace.wait(0.0), pace.allowance(0.0) > 1 << 40) == (0.0, True)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time that was counted once is not counted again."""
    pace = Pace(messages_per_second=100)
    pace.spent(10, 10, 100.0)
    assert pace.allowance(50.0) == 0
    assert pace.allowance(100.0) == 0
    assert pace.allowance(100.1) == 9


@pytest.mark.parametrize("rate", [1 / 6, 1.0, 3.0])
def test_slow_rates_are_kept_one_message_at_a_time(rate: float) -> None:
    """A metered link of one message a second sends one, waits for about a second, and sends the next."""
    sender = Sender(Pace(messages_per_second=rate))
    for _ in range(11):
        sender.send(0.0, 1000, 100)
    assert {count for _, count, _ in sender.sent} == {1}
    gaps = [later[0] - sooner[0] for sooner, later in pairwise(sender.sent)]
    assert gaps == pytest.approx([1 / (0.9 * rate)] * 10)


@pytest.mark.parametrize("rate", [0, -5])
def test_a_rate_that_cannot_be_kept_is_refused(rate: float) -> None:
    """Nothing would ever go."""
    with pytest.raises(ValueError, match="must be more than 0"):
        Pace(messages_per_second=rate)
