"""A follower: one uplink's way through the log. Pure: what it still has to send, and what became of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from gateway.outbox.claims import Account, Claim, is_for
from gateway.outbox.ranges import END, Ranges, runs
from gateway.outbox.shelf import Shelf, between
from gateway.outbox.tail import Tail
from gateway.reading import EPOCH_SHIFT, Reading

SPOILED = "spoiled"
"""Set in a session in which something was given up that the broker may remember: it is not to be resumed."""


MOST = 1 << 20
"""Readings that a block never holds; one that is damaged may say so."""


class Follower:
    """What one uplink still has to send, what is with a broker, and what was acknowledged."""

    def __init__(
        self,
        name: str,
        epoch: int,
        claim: Claim,
        waiting: int = 0,
        quarantined: int = 0,
        high: Ranges | None = None,
        hidden: Ranges | None = None,
    ) -> None:
        """`high` are the ids of all readings that go before others: it grows while this is in use.

        `hidden` are those of which nothing is known yet: they shrink, by `reveal`.
        """
        self.name = name
        self.account = Account(waiting=waiting, lost=quarantined, quarantined=quarantined)
        self.acked = Ranges(claim.acked)
        self.todo = Ranges(self.acked.gaps(0, END))
        self.released: set[int] = set()
        for start, end in claim.released:
            for a, b in self.acked.gaps(start, end):
                self.todo.remove(a, b)
                self.released.update(range(a, b))
        self._hidden = Ranges() if hidden is None else hidden
        for start, end in self._hidden:
            self.todo.remove(start, end)
        self._high = Ranges() if high is None else high
        self.urgent = Ranges()
        """Of what is to be sent, what goes before all else."""
        for start, end in self._high:
            for a, b in self.todo.common(start, end):
                self.urgent.add(a, b)
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
        self.devices = None if claim.devices is None else frozenset(claim.devices)
        self.frontier = 0
        """Every id from here on is live, and goes before those below."""
        self.passed_over = False
        """Something that it does not want was in the way, and is done with."""
        self.shelf, self.rush = Shelf(), Shelf()  # read back in order; read back because it is urgent
        self._awaited: dict[Shelf, tuple[int, int]] = {}  # [from, to) of what would be taken next from the card
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
        devices = None if self.devices is None else sorted(self.devices)
        return Claim(list(self.acked), list(runs(self.released)), self.session, devices)

    # ---- what is to be sent

    def wants(self, stream: str) -> bool:
        """Say whether readings of this stream are for this uplink."""
        return is_for(stream, self.devices)

    def lacks(self, reading: Reading) -> bool:
        """Say whether this uplink still needs a reading."""
        return reading.id not in self.acked and self.wants(reading.stream)

    def take(self, limit: int, tail: Tail, upto: int, backlog: int = END) -> list[Reading]:
        """Return up to `limit` readings below id `upto`: urgent ones, then live ones, then `backlog` of the others.

        Each of these oldest first; fewer only if there are no more in memory. `wanted` tells what should be read back.
        """
        self._awaited.clear()
        if self.held:
            return []
        taken = self._take_urgent(limit, tail, upto) if self.urgent else []
        has_to_wait = self.rush in self._awaited and not self.rush.stuck
        if self._hidden and not self.frontier:
            return taken  # what is not known yet goes first
        if self.todo.first[0] >= self.frontier:  # all that there is, is live
            return taken if has_to_wait else self._take(0, upto, limit, tail, taken)
        live = max(self.frontier, tail.start)
        taken = self._take(live, upto, limit, tail, taken)
        return taken if has_to_wait else self._take(0, min(upto, live), min(limit, len(taken) + backlog), tail, taken)

    def _take(self, at: int, upto: int, limit: int, tail: Tail, taken: list[Reading]) -> list[Reading]:
        """Add to `taken` what there is from id `at` on, until there are `limit`; return it."""
        while (room := limit - len(taken)) > 0:
            start, end = self.todo.first if at == 0 else self.todo.after(at)
            if start >= upto:
                break
            if start >= tail.start:
                readings = tail.slice(start, min(end, start + room, upto))
                if not readings:
                    break
                self._remove(start, start + len(readings))
                if end == END and self.devices is None:
                    return taken + readings if taken else readings
            else:
                found = self._read_back(self.shelf, start, min(end, upto), room)
                if found is None:
                    if self.shelf.stuck:
                        self._newer(limit, tail, upto, taken)
                    break
                readings = found
            taken += readings if self.devices is None else self._for_this(readings)
        return taken

    def _read_back(self, shelf: Shelf, start: int, end: int, room: int) -> list[Reading] | None:
        """Take up to `room` readings from id `start` on of what was read back; None if that has to be read first."""
        page = shelf.at(start)
        if page is None:
            self._awaited[shelf] = start, end
            return None
        if shelf is self.shelf:  # the next one is read while this one is sent
            self._awaited[shelf] = start, end
        end = min(end, page.end)
        readings = between(page.readings, start, end, room)
        stop = end if len(readings) < room else readings[-1].id + 1
        self._remove(start, stop)
        if len(readings) < stop - start:
            # The other ids do not exist: nobody has to wait for them.
            there = Ranges(runs(reading.id for reading in readings))
            for a, b in there.gaps(start, stop):
                self.acked.add(a, b)
        return readings

    def _take_urgent(self, limit: int, tail: Tail, upto: int) -> list[Reading]:
        taken: list[Reading] = []
        waiting = False  # for one that is on the card
        for start, end in self.urgent:
            if start >= upto or len(taken) >= limit:
                break
            room = limit - len(taken)
            if start >= tail.start:
                readings = tail.slice(start, min(end, start + room, upto))
                if not readings:
                    break
                self._remove(start, start + len(readings))
            elif waiting:
                continue
            else:
                found = self._read_back(self.rush, start, min(end, upto, tail.start), room)
                waiting = found is None
                readings = found or []
            taken += readings if self.devices is None else self._for_this(readings)
        return taken

    def _newer(self, limit: int, tail: Tail, upto: int, taken: list[Reading]) -> None:
        """Take what is in memory, and leave what is on the card."""
        for start, end in self.todo:
            lo, hi = max(start, tail.start), min(end, tail.end, upto)
            if lo < hi and (readings := tail.slice(lo, min(hi, lo + limit - len(taken)))):
                self._remove(readings[0].id, readings[-1].id + 1)
                taken += readings if self.devices is None else self._for_this(readings)

    def _for_this(self, readings: Sequence[Reading]) -> list[Reading]:
        """Return those that this uplink wants; the others are done with."""
        mine = [reading for reading in readings if self.wants(reading.stream)]
        if len(mine) < len(readings):
            self.passed_over = True
            for start, end in runs(reading.id for reading in readings if not self.wants(reading.stream)):
                self.acked.add(start, end)
        return mine

    def wanted(self, start_of_tail: int) -> Iterator[tuple[Shelf, int, int]]:
        """Yield (shelf, from id, below id) of what should be read back now, after a `take`."""
        for shelf, (start, end) in self._awaited.items():
            below = end if shelf is self.rush else start_of_tail
            if (found := shelf.wanted(start)) is not None and found < below:
                yield shelf, found, below

    def hurry(self, start: int, end: int) -> None:
        """Send these before all others."""
        for a, b in self.acked.gaps(start, end):
            self.urgent.add(a, b)

    def reveal(self, start: int, end: int, waiting: int, high: Iterable[tuple[int, int]]) -> None:
        """Have what is lacking in [start, end) to be sent, which is not hidden any more: so many readings."""
        lacking = list(self.acked.gaps(start, end))
        if not lacking:
            return  # also what it has never waited for
        self.account.waiting += waiting
        for a, b in lacking:
            self.todo.add(a, b)
        for a, b in runs(one for one in self.released if start <= one < end):
            self.todo.remove(a, b)
        for a, b in high:
            for c, d in self.todo.common(a, b):
                self.urgent.add(c, d)

    def _remove(self, start: int, end: int) -> None:
        self.todo.remove(start, end)
        if self.urgent:
            self.urgent.remove(start, end)

    def idle(self, tail: Tail, count: int, *, sparing: bool = False) -> list[Reading]:
        """Return the oldest readings that no link has taken, up to `count`; none if the oldest are on the card.

        `sparing` those that go before others, as long as there are more.
        """
        sparing = sparing and bool(self.urgent)
        found: list[Reading] = []
        for start, end in self.todo:
            if start < tail.start or len(found) >= count:
                break
            for a, b in self.urgent.gaps(start, end) if sparing else ((start, end),):
                found += tail.slice(a, min(b, a + count - len(found)))
        if sparing and len(found) < count:
            for start, end in self.urgent:
                found += tail.slice(start, min(end, start + count - len(found)))
        return found

    def newest(self, tail: Tail) -> list[Reading]:
        """Return the newest reading in memory that no link has taken, and that does not go before others, if any."""
        for start, end in reversed(list(self.todo)):
            for _, b in reversed(list(self.urgent.gaps(max(start, tail.start), min(end, tail.end)))):
                return tail.slice(b - 1, b)
        return []

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
                for c, d in self._high.common(a, b) if self._high else ():
                    self.urgent.add(c, d)
                if sent:
                    self._again.add(a, b)

    def was_sent(self, one: int) -> bool:
        """Say whether a broker may have seen it on an earlier link, or in an earlier run."""
        return one < self.horizon or one in self._again

    def give_up(self, start: int, end: int, reason: str, most: int = END) -> int:
        """Give up all ids in [start, end), and return how many were waiting: at most `most`."""
        ids = (one for a, b in self.acked.gaps(start, end) for one in range(a, b))
        fresh = list(islice(ids, MOST))
        if fresh:
            if self.session and not self.session.get(SPOILED) and self._with_broker(fresh):
                self.session = {**self.session, SPOILED: True}
            self._remove(start, end)
            self.acked.add(start, end)
            self.released.difference_update(fresh)
            del fresh[most:]
            if self.devices is not None:
                del fresh[max(0, self.account.waiting) :]  # of a whole block, nobody knows how many were for it
            self.account.waiting -= len(fresh)
            self.account.lost += len(fresh)
            if self._fates and self._fates[-1][1] == reason:
                self._fates[-1][0].extend(fresh)
            else:
                self._fates.append((fresh, reason))
        return len(fresh)

    def lacking(self, spans: Iterable[tuple[int, int]]) -> Callable[[Reading], bool]:
        """Return what says of a reading with an id in `spans` whether it is lacking now, whatever comes later."""
        acked, devices = Ranges(span for start, end in spans for span in self.acked.common(start, end)), self.devices
        return lambda reading: reading.id not in acked and is_for(reading.stream, devices)

    def spoil(self, spans: Iterable[tuple[int, int]]) -> None:
        """Note that something in these will be given up, which no link has taken."""
        if self.session and any(start < self.horizon or self._again.overlap(start, end) for start, end in spans):
            self.session = {**self.session, SPOILED: True}

    def thinned(self, ids: list[int], reason: str) -> None:
        """Note that these, which waited, are not on the card any more; they remain ids that nobody has dealt with."""
        self.account.waiting -= len(ids)
        self.account.lost += len(ids)
        if ids:
            self._fates.append((ids, reason))

    def close(self, start: int, end: int) -> int:
        """Have nothing more to do with [start, end), where nothing is lacking; return how many ids that concerns."""
        self._remove(start, end)
        return self.acked.add(start, end)

    def _with_broker(self, ids: Iterable[int]) -> bool:
        """Say whether a broker may still remember one of these."""
        return any(one not in self.todo or self.was_sent(one) for one in ids)

    def pass_over(self, one: int) -> None:
        """Have nothing to do with this id, which was taken in for another uplink."""
        self._remove(one, one + 1)
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
                self._remove(one, one + 1)
                self.released.add(one)

    def unrelease(self) -> list[int]:
        """Forget what was released, and return it; `left` puts it back."""
        ids = sorted(self.released)
        self.released.clear()
        return ids


def nobody() -> None:
    """Be called in place of somebody who is not there."""


def _not_asked(ids: Sequence[int], reason: str | None) -> None:
    return None
