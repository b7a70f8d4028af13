"""How fast something that is counted grows, over the last minutes."""

from __future__ import annotations

from collections import deque

SPAN = 300.0
"""Seconds that are looked back."""
STEP = 5.0
"""Seconds between two counts that are kept."""


class Rate:
    """Told a count now and then, with the time in seconds, it tells the growth per second. Pure."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()

    def note(self, now: float, count: int) -> None:
        """Take a count."""
        if self._counts and now - self._counts[-1][0] < STEP:
            return
        self._counts.append((now, count))
        while now - self._counts[0][0] > SPAN:
            self._counts.popleft()

    def per_second(self, now: float, count: int) -> float | None:
        """Return the growth per second until now; None if it is too early to tell."""
        if not self._counts or now - self._counts[0][0] < STEP:
            return None
        since, before = self._counts[0]
        return (count - before) / (now - since)
