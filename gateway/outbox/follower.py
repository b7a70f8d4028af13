"""A follower: one uplink's way through the log. Pure: what it still has to send, and what became of the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.outbox.ranges import END, Ranges, runs
from gateway.outbox.tail import Tail
from gateway.reading import EPOCH_SHIFT, Reading

SPOILED = "spoiled"
"""Set in a session in which something was given up that the broker may remember: it is not to be resumed."""


@dataclass(frozen=True, slots=True)
class Page:
    """Readings read back from the card: all that exist with start <= id < end."""

    start: int
    end: int
    readings: list[Reading]


@dataclass(slots=True)
class Account:
    """What became of the readings of one uplink: taken in = delivered + waiting + lost."""

    delivered: int = 0
    waiting: int = 0
    lost: int = 0
    quarantined: int = 0  # of those lost, how many are set aside and could be tried again


@dataclass(frozen=True, slots=True)
class Claim:
    """What the card knows of an uplink."""

    acked: list[tuple[int, int]]  # acknowledged, or lost, or set aside
    released: list[tuple[int, int]]  # QoS 2: a broker has them, and only the end of the exchange is missing
    session: dict[str, Any]


class Follower:
    """What one uplink still has to send, what is with a broker, and what was acknowledged."""

    def __init__(self, name: str, epoch: int, claim: Claim, waiting: int = 0, quarantined: int = 0) -> None:
        self.name = name
        self.account = Account(waiting=waiting, lost=quarantined, quarantined=quarantined)
        self.acked = Ranges(claim.acked)
        self.todo = Ranges(self.acked.gaps(0, END))
        self.released: set[int] = set()
        for start, end in claim.released:
            for a, b in self.acked.gaps(start, end):
                self.todo.remove(a, b)
                self.released.update(range(a, b))
        self.session = claim.session
        self.horizon = (epoch << EPOCH_SHIFT) + 1
        """Every id below was taken in by an earlier run."""
        self.recorded = self.floor
        """Every id below has met its end, and the card knows."""
        self.held = False  # nothing may be taken until the card knows something
        self.on_ready: Callable[[], None] = nobody
        """Called when there may be something to take again."""
        self.on_fate: Callable[[Sequence[int], str | None], None] = _not_asked
        """Called once for a batch of ids that have met their end: None is acknowledged, else the reason."""
        self.pages: deque[Page] = deque()
        self.loading = False
        self.behind = False
        self.stuck = False  # the card does not give what is on it: what is in memory goes before it
        self._again = Ranges()  # what a link that is gone had sent
        self._fates: list[tuple[list[int], str]] = []  # not yet told

    @property
    def floor(self) -> int:
        """Every id below is acknowledged (or was lost, or never was)."""
        start, end = self.acked.first
        return end if start == 0 else 0

    @property
    def claim(self) -> Claim:
        """What the card should know."""
        return Claim(list(self.acked), list(runs(self.released)), self.session)

    # ---- what is to be sent

    def take(self, limit: int, tail: Tail, upto: int) -> list[Reading]:
        """Return up to `limit` readings below id `upto`, oldest first; fewer only if there are no more in memory.

        `behind` tells whether there are more on the card.
        """
        taken: list[Reading] = []
        self.behind = False
        while not self.held and (room := limit - len(taken)) > 0:
            start, end = self.todo.first
            if start >= upto:
                break
            if start >= tail.start:
                readings = tail.slice(start, min(end, start + room, upto))
                if not readings:
                    break
                self.todo.remove(start, start + len(readings))
                if end == END:
                    return taken + readings if taken else readings
            else:
                self.behind = True
                end = min(end, upto)
                page = self._page(start)
                if page is None:
                    return taken + self._newer(limit - len(taken), tail, upto) if self.stuck else taken
                readings = _between(page.readings, start, min(end, page.end), room)
                stop = min(end, page.end) if len(readings) < room else readings[-1].id + 1
                self.todo.remove(start, stop)
                if len(readings) < stop - start:
                    # The other ids do not exist: nobody has to wait for them.
                    there = Ranges(runs(reading.id for reading in readings))
                    for a, b in there.gaps(start, stop):
                        self.acked.add(a, b)
            taken += readings
        return taken

    def _newer(self, limit: int, tail: Tail, upto: int) -> list[Reading]:
        """Take what is in memory, and leave what is on the card."""
        taken: list[Reading] = []
        for start, end in self.todo:
            lo, hi = max(start, tail.start), min(end, tail.end, upto)
            if lo < hi and (readings := tail.slice(lo, min(hi, lo + limit - len(taken)))):
                self.todo.remove(readings[0].id, readings[-1].id + 1)
                taken += readings
        return taken

    def wanted(self, start_of_tail: int) -> int | None:
        """Return the id from which the next page should be read, or None if none is needed now."""
        start = self.todo.first[0]
        if self.pages:
            if len(self.pages) > 1:
                return None
            start = self.pages[-1].end
        return start if start < start_of_tail and not self.loading else None

    def idle(self, tail: Tail, count: int) -> list[Reading]:
        """Return the oldest readings that no link has taken, up to `count`; none if the oldest are on the card."""
        found: list[Reading] = []
        for start, end in self.todo:
            if start < tail.start or len(found) >= count:
                break
            found += tail.slice(start, min(end, start + count - len(found)))
        return found

    def in_flight(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of ids that a link has taken, and that have not met their end."""
        for start, end in self.todo.gaps(self.floor, self.todo.last[0]):
            yield from self.acked.gaps(start, end)

    # ---- what became of it

    def acknowledged(self, ids: list[int]) -> Sequence[int]:
        """Note that a broker has taken these over, and return those that were still waiting."""
        lo, hi = ids[0], ids[-1]
        contiguous = hi - lo + 1 == len(ids) and min(ids) == lo and max(ids) == hi
        spans = ((lo, hi + 1),) if contiguous else tuple(runs(ids))
        if any(self.acked.overlap(start, end) for start, end in spans):
            ids = [one for one in dict.fromkeys(ids) if one not in self.acked]
        for start, end in spans:
            self.acked.add(start, end)
        if self.released:
            self.released.difference_update(ids)
        self.account.delivered += len(ids)
        self.account.waiting -= len(ids)
        return ids

    def left(self, ids: Iterable[int], *, sent: bool) -> None:
        """Put back what was taken: it has to be sent again, before anything newer."""
        if self.released:
            ids = [one for one in ids if one not in self.released]
        self._again.remove(0, self.floor)
        for start, end in runs(ids):
            for a, b in self.acked.gaps(start, end):
                self.todo.add(a, b)
                if sent:
                    self._again.add(a, b)

    def was_sent(self, one: int) -> bool:
        """Say whether a broker may have seen it on an earlier link, or in an earlier run."""
        return one < self.horizon or one in self._again

    def give_up(self, start: int, end: int, reason: str) -> int:
        """Give up all ids in [start, end), and return how many were waiting."""
        fresh = [one for a, b in self.acked.gaps(start, end) for one in range(a, b)]
        if fresh:
            if self.session and not self.session.get(SPOILED) and self._with_broker(fresh):
                self.session = {**self.session, SPOILED: True}
            self.todo.remove(start, end)
            self.acked.add(start, end)
            self.released.difference_update(fresh)
            self.account.waiting -= len(fresh)
            self.account.lost += len(fresh)
            if self._fates and self._fates[-1][1] == reason:
                self._fates[-1][0].extend(fresh)
            else:
                self._fates.append((fresh, reason))
        return len(fresh)

    def _with_broker(self, ids: Iterable[int]) -> bool:
        """Say whether a broker may still remember one of these."""
        return any(one not in self.todo or self.was_sent(one) for one in ids)

    def pass_over(self, one: int) -> None:
        """Have nothing to do with this id, which was taken in for another uplink."""
        self.todo.remove(one, one + 1)
        self.acked.add(one, one + 1)

    def tell(self) -> None:
        """Tell what was given up since the last time."""
        if self._fates:
            fates, self._fates = self._fates, []
            for ids, reason in fates:
                self.on_fate(ids, reason)

    # ---- QoS 2

    def release(self, ids: Iterable[int]) -> None:
        """Note that a broker has received these: they must not be published again."""
        for one in ids:
            if one not in self.acked:
                self.todo.remove(one, one + 1)
                self.released.add(one)

    def unrelease(self) -> list[int]:
        """Forget what was released, and return it; `left` puts it back."""
        ids = sorted(self.released)
        self.released.clear()
        return ids

    def _page(self, start: int) -> Page | None:
        while self.pages and start >= self.pages[0].end:
            self.pages.popleft()
        if self.pages and start < self.pages[0].start:
            self.pages.clear()
        return self.pages[0] if self.pages else None


def nobody() -> None:
    """Be called in place of somebody who is not there."""


def _not_asked(ids: Sequence[int], reason: str | None) -> None:
    return None


def _between(readings: list[Reading], start: int, stop: int, limit: int) -> list[Reading]:
    """Return up to `limit` of the readings, which are sorted by id, with start <= id < stop."""
    # Ids of a page are nearly contiguous: guess, then search back and forth by bisection.
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
