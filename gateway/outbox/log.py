"""The log: what is in memory, what is on the card, what each uplink still has to do. Pure: no clock, loop or file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gateway.outbox.ranges import END, Ranges, runs
from gateway.reading import EPOCH_SHIFT, Reading, Value

# Readings that are on the card already and stay in memory all the same, so that a short outage needs no reading back.
KEEP = 5000
TIDY = 1.0
"""Seconds between transactions that only note acknowledgements."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Readings of one stream that one uplink will never deliver: a row of the ledger. Times are UTC seconds."""

    uplink: str
    stream: str
    epoch: int
    first_seq: int
    last_seq: int
    first_time: float
    last_time: float
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """Readings read back from the card: all that exist with start <= id < end."""

    start: int
    end: int
    readings: list[Reading]


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction makes durable."""

    readings: list[Reading]  # one block; may be empty
    upto: int  # every id below is on the card, or needs not be, when it is done
    acked: dict[str, list[tuple[int, int]]]
    floor: int  # blocks that end below are acknowledged by all
    losses: list[Loss]


@dataclass(slots=True)
class Account:
    """What became of the readings of one uplink: taken in = delivered + waiting + lost."""

    delivered: int = 0
    waiting: int = 0
    lost: int = 0


class Follower:
    """One uplink's way through the log: what it still has to send, and what was acknowledged."""

    def __init__(self, name: str, log: Log, acked: Ranges, waiting: int) -> None:
        self.name = name
        self.acked = acked
        self.account = Account(waiting=waiting)
        self.on_ready: Callable[[], None] = _nobody
        """Called when there may be something to take again."""
        self.todo = Ranges(acked.gaps(0, END))
        self.pages: deque[Page] = deque()
        self.loading = False
        self.behind = False
        self._log = log

    @property
    def floor(self) -> int:
        """Every id below is acknowledged (or was lost, or never was)."""
        start, end = self.acked.first
        return end if start == 0 else 0

    def take(self, limit: int) -> list[Reading]:
        """Return up to `limit` readings to send now, oldest first; fewer only if there are no more in memory.

        `behind` tells whether there are more on the card.
        """
        taken: list[Reading] = []
        self.behind = False
        while (room := limit - len(taken)) > 0:
            start, end = self.todo.first
            tail = self._log.tail
            if start >= tail.start:
                readings = tail.slice(start, min(end, start + room, self._log.visible))
                if not readings:
                    break
                self.todo.remove(start, start + len(readings))
                if end == END:
                    return taken + readings if taken else readings
            else:
                self.behind = True
                page = self._page(start)
                if page is None:
                    break
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

    def wanted(self) -> int | None:
        """Return the id from which the next page should be read, or None if none is needed now."""
        start = self.todo.first[0]
        if self.pages:
            if len(self.pages) > 1:
                return None
            start = self.pages[-1].end
        return start if start < self._log.tail.start and not self.loading else None

    def acknowledged(self, ids: list[int]) -> int:
        """Note that a broker has taken these over, and return how many of them were still waiting."""
        lo, hi = ids[0], ids[-1]
        if hi - lo + 1 == len(ids) and min(ids) == lo and max(ids) == hi:
            new = self.acked.add(lo, hi + 1)
        else:
            new = sum(self.acked.add(start, end) for start, end in runs(ids))
        self.account.delivered += new
        self.account.waiting -= new
        return new

    def left(self, ids: Iterable[int]) -> None:
        """Put back what was sent on a link that is gone: it has to be sent again, before anything newer."""
        for start, end in runs(ids):
            for a, b in self.acked.gaps(start, end):
                self.todo.add(a, b)

    def lose(self, start: int, end: int) -> int:
        """Give up all ids in [start, end), and return how many were waiting."""
        self.todo.remove(start, end)
        count = self.acked.add(start, end)
        self.account.lost += count
        self.account.waiting -= count
        return count

    def _page(self, start: int) -> Page | None:
        while self.pages and start >= self.pages[0].end:
            self.pages.popleft()
        if self.pages and start < self.pages[0].start:
            self.pages.clear()
        return self.pages[0] if self.pages else None


class Tail:
    """The newest readings, contiguous in id, in memory."""

    def __init__(self, start: int) -> None:
        self.start = start
        self._readings: list[Reading] = []
        self._head = 0  # index of the first that is still there: the front of a list is cut off rarely, in large pieces
        self.append = self._readings.append

    def __len__(self) -> int:
        return len(self._readings) - self._head

    @property
    def end(self) -> int:
        """One past the last id."""
        return self.start + len(self)

    def slice(self, start: int, end: int) -> list[Reading]:
        """Return the readings with start <= id < end that are here."""
        shift = self._head - self.start
        return self._readings[max(start, self.start) + shift : max(end, self.start) + shift]

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


@dataclass(slots=True)
class State:
    """What the card holds when the log is opened."""

    epoch: int
    stored_end: int = 0  # one past the highest id on the card
    blocks: int = 0
    acked: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)


class Log:
    """Readings with dense ids: a tail in memory, the rest on the card, and a follower for each uplink."""

    def __init__(self, state: State, uplinks: Sequence[str], *, durable_first: bool = False) -> None:
        """Start from what the card holds. Claims of uplinks that are not in `uplinks` are kept.

        `durable_first`: nothing is shown to followers before it is on the card.
        """
        self.epoch = state.epoch
        self.durable_first = durable_first
        first = (state.epoch << EPOCH_SHIFT) + 1
        self.tail = Tail(first)
        self.next_id = first
        self.taken_in = 0
        self.flushed = first  # every id below is on the card, or needs not be
        self.secured = first  # the same, or acknowledged by all; what `pending` has been told
        self.visible = first if durable_first else END
        self.blocks = state.blocks
        self.pending: dict[str, int] = {}  # readings of each stream that exist only in memory
        self.dirty = False  # acknowledgements that the card should know
        self.losses: list[Loss] = []
        self._seq: dict[str, int] = {}
        self.followers: dict[str, Follower] = {}
        for name in dict.fromkeys([*uplinks, *state.acked]):
            known = state.acked.get(name)
            # A new uplink starts here; ids between the last stored and the first of this epoch never existed.
            acked = Ranges([(0, first)] if known is None else known)
            acked.add(state.stored_end, first)
            self.followers[name] = Follower(name, self, acked, state.waiting.get(name, 0))

    @property
    def floor(self) -> int:
        """Every id below is acknowledged by every uplink."""
        return min(follower.floor for follower in self.followers.values())

    def put(self, stream: str, values: dict[str, Value], boot: float, time: float | None) -> None:
        """Append a reading. `boot` is CLOCK_BOOTTIME in seconds, `time` the device's own UTC time."""
        seq = self._seq.get(stream, 0) + 1
        self._seq[stream] = seq
        self.tail.append(Reading(self.next_id, stream, seq, boot, time, values))
        self.next_id += 1
        self.taken_in += 1
        self.pending[stream] = self.pending.get(stream, 0) + 1
        for follower in self.followers.values():
            follower.account.waiting += 1

    def acknowledge(self, follower: Follower, ids: list[int]) -> None:
        """Note what a broker has taken over, and forget what all have."""
        if follower.acknowledged(ids):
            self.settle()

    def settle(self) -> None:
        """Forget what every uplink has dealt with."""
        self.dirty = True
        floor = self.floor
        if floor > self.tail.start:
            self._secure(floor)
            self.tail.drop(floor)

    def oldest(self) -> Reading | None:
        """Return the oldest reading that is only in memory and that some uplink has not delivered."""
        start = max(self.flushed, self.floor)
        found = self.tail.slice(start, start + 1)
        return found[0] if found else None

    def due(self, interval: float, lead: float, last: float) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write.

        No reading may exist only in memory for longer than `interval` seconds, so a transaction, which takes up to
        `lead`, begins that much earlier. What only tidies up waits until `TIDY` after the `last` one.
        """
        due = []
        if (oldest := self.oldest()) is not None:
            due.append(oldest.boot + interval - lead)
        if self.losses or (self.dirty and self.blocks):
            due.append(last + max(interval, TIDY))
        return min(due) if due else None

    def begin(self) -> Commit:
        """Return what the next transaction has to write: all that is pending, the acknowledgements, the ledger."""
        floor = self.floor
        readings = self.tail.slice(max(self.flushed, floor), self.next_id)
        if any(len(follower.acked) > 1 for follower in self.followers.values()):
            sets = [follower.acked for follower in self.followers.values()]
            readings = [reading for reading in readings if not all(reading.id in acked for acked in sets)]
        acked = {name: list(follower.acked) for name, follower in self.followers.items()}
        losses, self.losses = self.losses, []
        self.dirty = False
        return Commit(readings, self.next_id, acked, floor, losses)

    def finish(self, commit: Commit, blocks: int) -> None:
        """Note that a commit is on the card, which now holds `blocks` blocks."""
        self.blocks = blocks
        self._secure(commit.upto)
        self.flushed = max(self.flushed, commit.upto)
        if self.durable_first:
            self.visible = self.flushed
        self.tail.drop(min(self.flushed, self.tail.end - KEEP))

    def failed(self, commit: Commit) -> None:
        """Note that a commit did not happen: all of it has to be in the next one."""
        self.losses[:0] = commit.losses
        self.dirty = True

    def lose(
        self, follower: Follower, readings: Sequence[Reading], reason: str, wall: Callable[[Reading], float]
    ) -> int:
        """Give up what `follower` still has of these readings, put it into the ledger, and return how many that is."""
        streams: dict[tuple[str, int], list[Reading]] = {}
        for reading in readings:
            if reading.id not in follower.acked:
                streams.setdefault((reading.stream, reading.epoch), []).append(reading)
                follower.lose(reading.id, reading.id + 1)
        for (stream, epoch), lost in streams.items():
            for part in _contiguous(lost):
                self.losses.append(
                    Loss(
                        follower.name,
                        stream,
                        epoch,
                        part[0].seq,
                        part[-1].seq,
                        wall(part[0]),
                        wall(part[-1]),
                        len(part),
                        reason,
                    )
                )
        count = sum(map(len, streams.values()))
        if count:
            self.settle()
        return count

    def damaged(self, follower: Follower, blocks: Sequence[Loss]) -> None:
        """Put what could not be read back for `follower` into the ledger: how many, and not which."""
        for loss in blocks:
            follower.account.lost += loss.count
            follower.account.waiting -= loss.count
            self.losses.append(replace(loss, uplink=follower.name))

    def _secure(self, end: int) -> None:
        """Take what is below `end` off the account of what exists only in memory."""
        if end <= self.secured:
            return
        for reading in self.tail.slice(self.secured, end):
            self.pending[reading.stream] -= 1
        self.secured = end


def _nobody() -> None:
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


def _contiguous(readings: list[Reading]) -> Iterator[list[Reading]]:
    """Split readings of one stream where their seq has a gap."""
    part: list[Reading] = []
    for reading in readings:
        if part and reading.seq != part[-1].seq + 1:
            yield part
            part = []
        part.append(reading)
    if part:
        yield part
