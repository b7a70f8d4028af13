"""Which broker next, and after what pause: a pure decision over each broker's own back-off."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

from gateway.backoff import Backoff

Mode: TypeAlias = Literal["hunt", "equal"]
"""`hunt`: independent brokers, the first is the best. `equal`: nodes that share their sessions, any is as good."""


class Hunt:
    """Brokers 0..n-1; each is left alone after a failure for a while of its own.

    In mode `hunt` they are in order of preference. In mode `equal` the one that was used last comes first, and after
    it the others in turn.
    """

    def __init__(
        self,
        brokers: int,
        first: float,
        longest: float,
        *,
        mode: Mode = "hunt",
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._backoffs = [Backoff(first, longest, uniform=uniform) for _ in range(brokers)]
        self._not_before = [float("-inf")] * brokers
        self._equal = mode == "equal"
        self._first = 0  # the broker that comes first
        self._tried: set[int] = set()  # those that failed since one has proven itself, until all have
        self._hint: int | None = None  # the one that another broker has named, until it was tried
        self._hinted: set[int] = set()  # those that were named since a broker has proven itself

    def next(self, now: float, below: int | None = None) -> tuple[int, float]:
        """Return (broker, seconds to wait): the most preferred that may be tried at `now`, else the soonest.

        Those that have not failed come before those that have, however short the pause of these is: failover goes on to
        the next broker. `below` considers only brokers that are preferred to that one.
        """
        if below is None and self._hint is not None:
            return self._hint, 0.0
        count = len(self._not_before)
        order = range(count)[:below] if below is not None else [(self._first + n) % count for n in range(count)]
        for index in sorted(order, key=self._tried.__contains__):
            if self._not_before[index] <= now:
                return index, 0.0
        soonest = min(order, key=self._not_before.__getitem__)
        return soonest, self._not_before[soonest] - now

    def wait(self, index: int, now: float) -> float:
        """Return for how many seconds this broker is still left alone."""
        return max(0.0, self._not_before[index] - now)

    def failed(self, index: int, now: float) -> None:
        """Note that this broker could not be reached or was lost."""
        self._not_before[index] = now + self._backoffs[index].next()
        self._tried.add(index)
        if len(self._tried) == len(self._not_before):
            self._tried.clear()
        if index == self._hint:
            self._hint = None
        if self._equal and index == self._first:
            self._first = (index + 1) % len(self._not_before)

    def hinted(self, index: int) -> None:
        """Note that another broker has named this one as the better choice: it is next, without a pause.

        Once, until a broker proves itself: two brokers may name each other.
        """
        if index not in self._hinted:
            self._hinted.add(index)
            self._hint = index

    def proven(self, index: int) -> None:
        """Note that this broker has acknowledged something."""
        self._backoffs[index].reset()
        self._tried.clear()
        self._hint = None
        self._hinted.clear()
        if self._equal:
            self._first = index
