"""What the edges of a line mean: levels without glitches, pulses counted, and how often they come. All of it pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.frames.edges import Edge
from adapters.frames.edges import skipped as skipped_between

_SECOND = 1_000_000_000  # in nanoseconds, the unit of every time here


class Steady:
    """The level of a line, without what is shorter than `shortest` nanoseconds, be it high or low."""

    def __init__(self, level: bool, shortest: int) -> None:
        self.level = level
        self._shortest = shortest
        self._raw = level
        self._since = 0

    def feed(self, time: int, level: bool) -> int | None:
        """Take a raw level from `time` on; return since when the level has been another one, if it is by now."""
        changed = self.settle(time)
        if level != self._raw:
            self._raw, self._since = level, time
        return changed

    def settle(self, now: int) -> int | None:
        """Return since when the level has been another one, if the raw level has lasted long enough by `now`."""
        if self._raw == self.level or now - self._since < self._shortest:
            return None
        self.level = self._raw
        return self._since

    def due(self) -> int | None:
        """Return when `settle` will have something to say, if nothing changes; None: nothing."""
        return None if self._raw == self.level else self._since + self._shortest

    def jump(self, time: int, level: bool) -> None:
        """Take a raw level from `time` on, of which nothing is known but that the level before was the other one."""
        self.level = not level
        self._raw, self._since = level, time


class Pulses:
    """Counts the pulses of a line: what becomes active, and stays so for `glitch` nanoseconds.

    With `glitch` 0 it needs the rising edges only, and counts also those that the kernel had no room for, which it
    numbers all the same. Otherwise it needs both; what was lost then is in `missed`.
    """

    def __init__(self, total: int, glitch: int = 0) -> None:
        self.total = total
        self.missed = 0
        """Edges that are neither counted nor known not to be pulses."""
        self.first: int | None = None
        self.last: int | None = None
        """When the first and the last pulse began, in nanoseconds."""
        self._number = 0
        self._glitch = glitch
        self._steady: Steady | None = None  # before the first edge, which tells what the level was

    def feed(self, edges: Sequence[Edge]) -> None:
        """Count the pulses in these edges."""
        for edge in edges:
            skipped = skipped_between(self._number, edge.number)
            self._number = edge.number
            if not self._glitch:
                self._count(edge.time, 1 + skipped)
                continue
            if self._steady is None:
                self._steady = Steady(not edge.level, self._glitch)
            if skipped:
                self.missed += skipped
                self._steady.jump(edge.time, edge.level)
            else:
                self._note(self._steady.feed(edge.time, edge.level))

    def settle(self, now: int) -> None:
        """Count a pulse that has lasted long enough by `now`."""
        if self._steady is not None:
            self._note(self._steady.settle(now))

    def _note(self, changed: int | None) -> None:
        if changed is not None and self._steady is not None and self._steady.level:
            self._count(changed, 1)

    def _count(self, time: int, pulses: int) -> None:
        self.total += pulses
        self.last = time
        if self.first is None:
            self.first = time


class Rhythm:
    """How often pulses come, from the times of the pulses themselves: exact for fast ones, and at once for slow ones.

    While none comes, the frequency is at most what it would be if one came now; after `idle` seconds it is 0.
    """

    def __init__(self, total: int, idle: float) -> None:
        self._total = total
        self._idle = idle
        self._anchor: int | None = None  # when the last pulse began that was looked at
        self._hertz = 0.0

    def hertz(self, pulses: Pulses, now: int) -> float:
        """Return the frequency since the last time, in pulses a second; `now` is CLOCK_MONOTONIC in nanoseconds."""
        fresh, last = pulses.total - self._total, pulses.last
        self._total = pulses.total
        if fresh and last is not None:
            since, count = (pulses.first, fresh - 1) if self._anchor is None else (self._anchor, fresh)
            self._anchor = last
            if since is not None and last > since and count:
                self._hertz = count * _SECOND / (last - since)
        elif self._anchor is not None:
            quiet = (now - self._anchor) / _SECOND
            self._hertz = 0.0 if quiet >= self._idle else min(self._hertz, 1 / quiet) if quiet > 0 else self._hertz
        return self._hertz
