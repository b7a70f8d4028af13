"""The window of a backlog: as large as a broker can take, and no larger than live readings can bear."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.uplink.catchup import KEPT, PAUSE, QUEUE, START, WARY, Catchup

latencies = st.lists(st.floats(0, 5), max_size=300)


@dataclass
class Queue:
    """A broker that takes `rate` readings a second, one after the other, at the end of a way of `delay` seconds.

    There is always more of a backlog, and a live reading every `every` seconds.
    """

    catchup: Catchup
    rate: Callable[[float], float]
    delay: Callable[[float], float]
    every: float = 0.1
    now: float = 0.0
    taken: int = 0  # of the backlog
    waits: list[tuple[float, float]] = field(default_factory=list)  # of live readings: when sent, how long

    def run(self, until: float) -> None:
        on_their_way: deque[tuple[float, int, float, bool]] = deque()  # when acknowledged, token, when sent, live
        token = 0
        at = 0.0  # when the broker has nothing to do any more
        live = self.every
        while self.now < until:
            sent: list[bool] = []
            while live <= self.now:
                sent.append(True)
                live += self.every
            sent += [False] * self.catchup.allowance(len(on_their_way) + len(sent))
            for is_live in sent:
                token += 1
                at = max(at, self.now) + 1 / self.rate(self.now)
                on_their_way.append((at + self.delay(self.now), token, self.now, is_live))
            if sent:
                self.catchup.sent(token, len(on_their_way), self.now)
            self.now = min(live, on_their_way[0][0]) if on_their_way else live
            done = []
            while on_their_way and on_their_way[0][0] <= self.now:
                when, one, began, is_live = on_their_way.popleft()
                done.append(one)
                if is_live:
                    self.waits.append((began, when - began))
                else:
                    self.taken += 1
            if done:
                self.catchup.acknowledged(done, self.now)


def play(rate: float, delay: float, seconds: float) -> Queue:
    queue = Queue(Catchup(1000, 5.0), lambda _: rate, lambda _: delay)
    queue.run(seconds)
    return queue


@given(st.integers(1, 65535), latencies, st.booleans())
def test_the_window_stays_within_its_bounds(largest: int, found: list[float], full: bool) -> None:
    """Whatever a broker does, at least one reading of a backlog may go, and never more than the whole window."""
    catchup, now = Catchup(largest, 5.0), 0.0
    for token, latency in enumerate(found):
        assert 1 <= catchup.window <= largest
        assert catchup.allowance(0) == catchup.window
        catchup.sent(token, catchup.window if full else 0, now)
        now += latency
        catchup.acknowledged([token], now)
        if token % 7 == 6:
            catchup.refused(token, now)
    assert 1 <= catchup.window <= largest
    assert catchup.allowance(largest) == 0 or largest == 1


@given(st.integers(2, 5000), st.floats(0, 2))
def test_without_a_queue_it_grows_to_the_whole_window(largest: int, way: float) -> None:
    """A long way is no congestion: however far the broker is, the window is used, but for a share for live ones."""
    catchup = Catchup(largest, 5.0)
    sizes = []
    for turn in range(2000):
        catchup.sent(turn, catchup.window, turn * 3.0)
        catchup.acknowledged([turn], turn * 3.0 + way)
        sizes.append(catchup.window)
    assert sizes == sorted(sizes)
    assert largest - largest // KEPT - 1 <= sizes[-1] < largest


def test_it_does_not_grow_while_it_is_not_full() -> None:
    """What was never in flight together has proved nothing."""
    catchup = Catchup(1000, 5.0)
    for turn in range(100):
        catchup.sent(turn, START - 1, turn)
        catchup.acknowledged([turn], turn + 0.01)
    assert catchup.window == START


@settings(max_examples=25)
@given(st.floats(20, 1000), st.floats(0.0005, 0.6))
def test_live_readings_wait_for_little_of_a_backlog(rate: float, delay: float) -> None:
    """Behind any broker, however slow, a live reading waits for little more than twice the queue that is aimed at.

    And the broker is kept at work: of what window and broker allow, at least 0.4 is used in the worst case, which is a
    slow broker at the end of a long way, where half of a window is not enough.
    """
    queue = play(rate, delay, 40.0)
    settled = sorted(wait for began, wait in queue.waits if began > 20.0)
    step = 8 / rate  # what the window grows by, and what is served meanwhile
    assert settled[int(len(settled) * 0.99)] <= delay + 2 * QUEUE + START / rate + step
    possible = min(rate - 1 / queue.every, 938 / (delay + 1 / rate)) * 40.0
    assert queue.taken >= 0.4 * possible - START


def test_a_fast_broker_is_kept_busy() -> None:
    """At 50,000 readings a second next door, a backlog goes at nearly that rate from the first second on."""
    queue = play(50_000, 0.0002, 3.0)
    assert queue.taken >= 0.95 * 3 * 50_000


def test_a_way_that_becomes_longer_is_found_out() -> None:
    """From one millisecond to 400: that is congestion for a while, and then simply the way that it is."""
    catchup = Catchup(1000, 5.0)
    queue = Queue(catchup, lambda _: 5000, lambda now: 0.001 if now < 10 else 0.4)
    queue.run(60.0)
    before = queue.taken
    queue.run(90.0)
    assert queue.taken - before >= 30 * 500


def test_a_hiccup_costs_nothing() -> None:
    """One acknowledgement that is late is the machine's doing; two in a row are a queue, and two more a longer one."""
    catchup, now = Catchup(1000, 5.0), 0.0
    sizes = []
    for token, latency in enumerate([0.01] * 9 + [0.5, 0.01, 0.5, 0.5, 0.5, 0.5, 0.01]):
        catchup.sent(token, catchup.window, now)
        now += latency
        catchup.acknowledged([token], now)
        sizes.append(catchup.window)
    assert sizes[8:] == [938, 938, 938, 938, 469, 469, 234, 238]


def test_a_broker_that_becomes_slow_is_spared() -> None:
    """A broker that is suddenly 25 times slower, with a whole window in its queue, has little there a minute later."""
    queue = Queue(Catchup(1000, 5.0), lambda now: 5000 if now < 5 else 200, lambda _: 0.001)
    queue.run(90.0)
    assert max(wait for began, wait in queue.waits if began > 60.0) <= 3 * QUEUE


def test_a_refusal_for_quota_pauses_and_shrinks_once_for_what_was_in_flight_together() -> None:
    """A thousand refusals of one flight are one refusal; afterwards everything goes through the smaller window."""
    catchup = Catchup(1000, 5.0)
    assert not catchup.wary
    for turn in range(20):
        catchup.sent(turn, 1000, turn)
        catchup.acknowledged([turn], turn + 0.01)
    window = catchup.window
    assert not any(catchup.refused(token, 100.0) for token in range(1000))
    assert catchup.window == window // 2
    assert catchup.room(1000, 0, 100.0) == 0
    assert catchup.wait(100.0) == pytest.approx(PAUSE)
    after = 100.0 + PAUSE
    assert catchup.wait(after) == 0.0
    assert catchup.room(1000, 10, after) == window // 2 - 10
    assert catchup.room(1000, 10, after + WARY) == 1000
    assert not catchup.wary


def test_a_broker_that_only_refuses_is_given_up_after_a_while() -> None:
    """With the smallest window, again and again, and nothing taken in between: another broker may be better."""
    catchup, now = Catchup(1000, 5.0), 0.0
    tries = 0
    while not catchup.refused(tries, now):
        tries += 1
        now += catchup.wait(now)
    assert catchup.window == 1
    assert 5.0 <= now < 5.0 + 2 * PAUSE
    assert tries > 3


def test_a_broker_that_takes_some_is_kept() -> None:
    """A rate that is lower than ours is no reason to go."""
    catchup, now = Catchup(1000, 5.0), 0.0
    for turn in range(1000):
        assert not catchup.refused(2 * turn, now)
        now += catchup.wait(now)
        catchup.acknowledged([2 * turn + 1], now)
    assert now == pytest.approx(1000 * PAUSE)


def test_in_lumps_nothing_is_taken_until_half_of_the_window_is_free() -> None:
    """So that many readings of one stream can go together, and not one at a time as each acknowledgement comes."""
    catchup = Catchup(1000, 5.0)
    assert catchup.window == START
    assert [catchup.allowance(used, lumps=True) for used in (0, START // 2, START // 2 + 1, START)] == [16, 8, 0, 0]
    assert [catchup.allowance(used) for used in (0, START // 2, START // 2 + 1, START)] == [16, 8, 7, 0]
