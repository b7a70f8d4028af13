"""Back-off: how long to wait before the n-th attempt, with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays between 0 and a ceiling that doubles from `first` to `longest` seconds.

    Full jitter: a thousand gateways that lost one broker do not come back in one second.
    """

    def __init__(
        self, first: float, longest: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.first = first
        self.longest = longest
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        """Return the delay in seconds before the next attempt, and remember that one more has failed."""
        ceiling = min(self.longest, self.first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._uniform(0.0, ceiling)

    def reset(self) -> None:
        """Start again from `first`: the other side has proven itself."""
        self._failures = 0
