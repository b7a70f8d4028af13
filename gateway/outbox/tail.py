"""The tail: the newest readings, contiguous in id, in memory."""

from __future__ import annotations

from collections.abc import Callable

from gateway.reading import Reading


class Tail:
    """Readings by id; those at the front are forgotten first."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._readings: list[Reading | None] = []
        self._head = 0  # index of the first that is still there: the front of a list is cut off rarely, in large pieces
        self.append: Callable[[Reading], None] = self._readings.append

    def __len__(self) -> int:
        return len(self._readings) - self._head

    @property
    def end(self) -> int:
        """One past the last id."""
        return self.start + len(self)

    def slice(self, start: int, end: int) -> list[Reading]:
        """Return the readings with start <= id < end that are here, if none of them was punched out."""
        shift = self._head - self.start
        return self._readings[max(start, self.start) + shift : max(end, self.start) + shift]  # type: ignore[return-value]

    def drop(self, end: int) -> None:
        """Forget every reading below id `end`."""
        count = min(end, self.end) - self.start
        if count <= 0:
            return
        self.start += count
        self._head += count
        if self._head > 1000 and self._head * 2 > len(self._readings):
            del self._readings[: self._head]
            self._head = 0

    def punch(self, start: int, end: int) -> list[Reading]:
        """Forget the readings with start <= id < end, wherever they are, and return those that were there."""
        shift = self._head - self.start
        lo, hi = max(start, self.start) + shift, min(end, self.end) + shift
        if lo >= hi:
            return []
        there = [reading for reading in self._readings[lo:hi] if reading is not None]
        self._readings[lo:hi] = [None] * (hi - lo)
        return there
