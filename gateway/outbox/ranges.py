"""A set of ids as disjoint, sorted, half-open ranges: small when what is in it is nearly contiguous."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

END = 1 << 62
"""Beyond every id: the open end of "everything from here on"."""


class Ranges:
    """A mutable set of ids. All operations are O(ranges touched + log ranges)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        """Return the number of ranges, not of ids."""
        return len(self._starts)

    def __contains__(self, item: int) -> bool:
        at = bisect_right(self._starts, item) - 1
        return at >= 0 and item < self._ends[at]

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    @property
    def first(self) -> tuple[int, int]:
        """Return the lowest range. Raises IndexError when empty."""
        return self._starts[0], self._ends[0]

    @property
    def last(self) -> tuple[int, int]:
        """Return the highest range. Raises IndexError when empty."""
        return self._starts[-1], self._ends[-1]

    def add(self, start: int, end: int) -> int:
        """Put all of [start, end) in, and return how many were not in before."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        lo = bisect_left(ends, start)  # the first range that touches [start, end)
        hi = bisect_right(starts, end)  # one past the last
        if lo == hi:
            starts.insert(lo, start)
            ends.insert(lo, end)
            return end - start
        before = sum(map(int.__sub__, ends[lo:hi], starts[lo:hi]))
        first, last = min(start, starts[lo]), max(end, ends[hi - 1])
        starts[lo:hi] = [first]
        ends[lo:hi] = [last]
        return last - first - before

    def remove(self, start: int, end: int) -> int:
        """Take all of [start, end) out, and return how many were in."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        if starts and start == starts[0] and end < ends[0]:  # the usual case: the front of the first range
            starts[0] = end
            return end - start
        lo = bisect_right(ends, start)
        hi = bisect_left(starts, end)
        if lo >= hi:
            return 0
        taken = sum(min(end, ends[at]) - max(start, starts[at]) for at in range(lo, hi))
        left = [(starts[lo], start)] if starts[lo] < start else []
        right = [(end, ends[hi - 1])] if end < ends[hi - 1] else []
        rest = left + right
        starts[lo:hi] = [a for a, _ in rest]
        ends[lo:hi] = [b for _, b in rest]
        return taken

    def overlap(self, start: int, end: int) -> int:
        """Return how many ids of [start, end) are in."""
        lo = bisect_right(self._ends, start)
        hi = bisect_left(self._starts, end)
        return sum(min(end, self._ends[at]) - max(start, self._starts[at]) for at in range(lo, hi))

    def after(self, start: int) -> tuple[int, int]:
        """Return the first part of a range that is not below `start`; (END, END) if there is none."""
        at = bisect_right(self._ends, start)
        return (max(start, self._starts[at]), self._ends[at]) if at < len(self._starts) else (END, END)

    def common(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that are in, in order."""
        lo = bisect_right(self._ends, start)
        hi = bisect_left(self._starts, end)
        for a, b in zip(self._starts[lo:hi], self._ends[lo:hi], strict=True):
            yield max(start, a), min(end, b)

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that are not in, in order."""
        lo = bisect_right(self._ends, start)
        hi = bisect_left(self._starts, end)
        for a, b in zip(self._starts[lo:hi], self._ends[lo:hi], strict=True):
            if a > start:
                yield start, a
            start = b
        if start < end:
            yield start, end


def runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges that make up `ids`, which may come in any order."""
    start = end = None
    for one in sorted(ids):
        if end is None or start is None:
            start, end = one, one + 1
        elif one <= end:
            end = max(end, one + 1)
        else:
            yield start, end
            start, end = one, one + 1
    if start is not None and end is not None:
        yield start, end
