"""A shelf: what a follower has had read back from the card, and has not yet taken. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateway.reading import Reading


@dataclass(frozen=True, slots=True)
class Page:
    """Readings read back from the card: all that exist with start <= id < end."""

    start: int
    end: int
    readings: list[Reading]


Bad = tuple[int, int, int]
"""(first, last) id of a block that cannot be read, and how many readings are in it."""


class Shelf:
    """Up to two pages, one behind the other."""

    def __init__(self) -> None:
        self.loading = False
        self.stuck = False  # the card does not give what is on it
        self._pages: deque[Page] = deque()

    def put(self, page: Page) -> None:
        """Add what was read; a page that ends where it starts says that the card did not give it."""
        self.stuck = page.end == page.start
        if not self.stuck:
            self._pages.append(page)

    def clear(self) -> None:
        """Forget it all: it is to be read again."""
        self._pages.clear()

    def at(self, start: int) -> Page | None:
        """Return the page with this id, if it was read; what is before it is done with."""
        while self._pages and start >= self._pages[0].end:
            self._pages.popleft()
        if self._pages and start < self._pages[0].start:
            self._pages.clear()
        return self._pages[0] if self._pages else None

    def wanted(self, start: int) -> int | None:
        """Return the id from which the next page should be read; `start` is the next to be taken. None: none now."""
        if self.loading or len(self._pages) > 1:
            return None
        return self._pages[-1].end if self._pages else start


def between(readings: list[Reading], start: int, stop: int, limit: int) -> list[Reading]:
    """Return up to `limit` of the readings, which are sorted by id, with start <= id < stop."""
    lo, hi = 0, len(readings)
    while lo < hi:
        middle = (lo + hi) // 2
        if readings[middle].id < start:
            lo = middle + 1
        else:
            hi = middle
    found = readings[lo : lo + limit]
    while found and found[-1].id >= stop:
        found.pop()
    return found
