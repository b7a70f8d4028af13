"""Which broker next, and after what pause: a pure decision over each broker's own back-off."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.backoff import Backoff


class Hunt:
    """Brokers 0..n-1 in order of preference; each is left alone after a failure for a while of its own."""

    def __init__(
        self, brokers: int, first: float, longest: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._backoffs = [Backoff(first, longest, uniform=uniform) for _ in range(brokers)]
        self._not_before = [float("-inf")] * brokers

    def next(self, now: float, below: int | None = None) -> tuple[int, float]:
        """Return (broker, seconds to wait): the most preferred that may be tried at `now`, else the soonest.

        `below` considers only brokers that are preferred to that one.
        """
        times = self._not_before[:below]
        for index, time in enumerate(times):
            if time <= now:
                return index, 0.0
        soonest = min(times)
        return times.index(soonest), soonest - now

    def failed(self, index: int, now: float) -> None:
        """Note that this broker could not be reached or was lost."""
        self._not_before[index] = now + self._backoffs[index].next()

    def proven(self, index: int) -> None:
        """Note that this broker has acknowledged a reading."""
        self._backoffs[index].reset()
