"""The log: what is in memory, what is on the card, what each uplink still has to do. Pure: no clock, loop or file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.outbox.card.salvage import Salvaged
from gateway.outbox.claims import Account, Claim, choice
from gateway.outbox.commit import Commit, State
from gateway.outbox.follower import Follower
from gateway.outbox.ledger import Ledger
from gateway.outbox.quarantine import Quarantine
from gateway.outbox.ranges import END, Ranges
from gateway.outbox.tail import Tail
from gateway.reading import A_READING, EPOCH_SHIFT, Publication, Reading, Value, weigh

# Readings, and bytes of them, that are on the card already and stay in memory all the same, so that a short outage
# needs no reading back.
KEEP = 5000
KEEP_BYTES = 4_000_000
TIDY = 1.0
"""Seconds between transactions that only note what may be noted later."""
SPARSE = 2000
"""Readings in memory from which on, without a card, those that are done with are looked for among the others."""
SET_ASIDE = 1000
"""Readings that the quarantine holds without a card; older ones go into the ledger."""


class Log:
    """Readings with dense ids: a tail in memory, the rest on the card, and a follower for each uplink."""

    def __init__(
        self,
        state: State,
        uplinks: Sequence[str],
        *,
        durable_first: bool = False,
        has_card: bool = True,
        high: Collection[str] = (),
        devices: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Start from what the card holds. Claims of uplinks that are not in `uplinks` are kept.

        `durable_first`: nothing is shown to followers before it is on the card. `high`: streams that go before others.
        `devices`: of
        which streams a new uplink wants the readings, where not of all.
        """
        self.epoch = state.epoch
        self.durable_first = durable_first
        self.has_card = has_card
        first = (state.epoch << EPOCH_SHIFT) + 1
        self.tail = Tail(first)
        self.next_id = first
        self.taken_in = 0
        self.flushed = first  # every id below is on the card, or needs not be
        self.secured = first  # the same, or acknowledged by all; what `pending` and `weight` have been told
        self.visible = first if durable_first else END
        self.blocks = state.blocks
        self.pending: dict[str, int] = {}  # readings of each stream that exist only in memory
        self.weight = 0  # bytes of what exists only in memory
        self.kept: list[Reading] = []  # of high priority, only in memory, and older than the tail
        self.dirty = False  # acknowledgements that the card should know
        self.noted = False  # a session or a release that the card should know
        self.urgent: list[Callable[[], None]] = []  # to be called once all that is known now is on the card
        self.ledger = Ledger()
        self.quarantine = Quarantine()
        self.high = frozenset(high)
        self.high_ids = Ranges(state.high)
        """The ids of their readings, as long as somebody waits for them."""
        self.hidden = Ranges(state.hidden)
        """Ids that an earlier run has left, and of which nothing is known yet."""
        self.salvaged: Salvaged | None = None  # for the card to know
        self.hurried = False  # one of them was put in, and is to be on the card at once
        self.followers: dict[str, Follower] = {}
        self._forgotten: list[str] = []  # of whom the card still knows
        self._seq: dict[str, int] = {}
        self._publications = False  # has ever seen one
        self._ragged = False  # something may have been dealt with behind something that waits
        self._thin_at = SPARSE
        for name in dict.fromkeys([*uplinks, *state.claims]):
            # A new uplink starts here; ids between the last stored and the first of this epoch never existed.
            claim = state.claims.get(name) or choice(Claim([(0, first)], [], {}), name, devices)
            claim = replace(claim, acked=[*claim.acked, (state.stored_end, first)])
            self.followers[name] = Follower(
                name,
                state.epoch,
                claim,
                state.waiting.get(name, 0),
                state.quarantined.get(name, 0),
                self.high_ids,
                self.hidden,
            )
        self._is_choosy = any(follower.devices is not None for follower in self.followers.values())
        self._accounts: dict[str, list[Account]] = {}  # of whom a stream is for

    @property
    def floor(self) -> int:
        """Every id below is acknowledged by every uplink."""
        return min((follower.floor for follower in self.followers.values()), default=self.next_id)

    @property
    def restless(self) -> bool:
        """Whether there is something to note on the card, sooner or later, beside readings."""
        return bool(self.noted or self.ledger.losses or self.quarantine or (self.dirty and self.blocks))

    def put(self, stream: str, values: dict[str, Value] | Publication, boot: float, time: float | None) -> int:
        """Append a reading and return its id. `boot` is CLOCK_BOOTTIME in seconds, `time` the device's own UTC time."""
        one = self.next_id
        self._seq[stream] = seq = self._seq.get(stream, 0) + 1
        self.tail.append(Reading(one, stream, seq, boot, time, values))
        self.next_id = one + 1
        self.taken_in += 1
        if type(values) is Publication:
            self._publications = True
            self.weight += len(values.topic) + len(values.payload)
        else:
            self.weight += A_READING
        self.pending[stream] = self.pending.get(stream, 0) + 1
        for account in self._accounts.get(stream) or self._accounts_of(stream):
            account.waiting += 1
        if stream in self.high:
            self.hurried = True
            self.high_ids.add(one, one + 1)
            for follower in self.followers.values():
                follower.hurry(one, one + 1)
        return one

    def is_high(self, stream: str) -> bool:
        """Say whether readings of this stream go before others, and are kept the longest."""
        return stream in self.high

    def take(self, follower: Follower, limit: int, upto: int = END, backlog: int = END) -> list[Reading]:
        """Return up to `limit` readings with id < `upto` for `follower` to send now. See `Follower.take`."""
        return follower.take(limit, self.tail, min(upto, self.visible), backlog)

    def is_stored(self, one: int) -> bool:
        """Say whether this id is on the card, or needs not be any more."""
        if one < self.flushed and not any(kept.id == one for kept in self.kept):
            return True
        return all(one in follower.acked for follower in self.followers.values())

    def acknowledge(self, follower: Follower, ids: list[int]) -> None:
        """Note what a broker has taken over, and forget what all have."""
        if fresh := follower.acknowledged(ids):
            self.settle()
            follower.on_fate(fresh, None)

    def settle(self) -> None:
        """Forget what every uplink has dealt with."""
        self.dirty = True
        floor = self.floor
        if floor > self.tail.start:
            self._secure(floor)
            self.tail.drop(floor)
        if not self.has_card:
            self._ragged = True
            if len(self.tail) >= self._thin_at:
                self.thin()

    def thin(self) -> None:
        """Without a card: forget what every uplink has dealt with also behind something that waits."""
        if not self._ragged:
            return
        self._ragged = False
        start, end = self.tail.start, self.next_id
        needed = Ranges()
        for follower in self.followers.values():
            for a, b in follower.acked.gaps(start, end):
                needed.add(a, b)
        for a, b in needed.gaps(start, end):
            self.take_off(self.tail.punch(a, b))
        self._thin_at = max(SPARSE, 2 * len(self.tail))

    def expect(self, streams: Iterable[str], high: Collection[str]) -> None:
        """Have the card know of these streams before they say anything; those in `high` go before others."""
        for stream in streams:
            self._seq.setdefault(stream, 0)
        self.high = frozenset(high)
        self.noted = True

    def join(self, name: str, devices: Collection[str] | None = None) -> None:
        """Have a follower of this name for all that is put in from now on, if there is none.

        `devices`: of which streams it wants the readings; None: of all.
        """
        if name in self.followers:
            return
        claim = Claim([(0, self.next_id)], [], {}, None if devices is None else sorted(devices))
        self.followers[name] = Follower(name, self.epoch, claim, 0, 0, self.high_ids)
        self._is_choosy |= devices is not None
        self._accounts.clear()
        self.noted = True

    def add(self, follower: Follower) -> None:
        """Have one more follower."""
        self.followers[follower.name] = follower
        self._accounts.clear()
        self._is_choosy = self._is_choosy or follower.devices is not None

    def remove(self, name: str) -> None:
        """Have no follower of this name: nothing waits for it any more, and the card is to forget it."""
        if self.followers.pop(name, None) is not None:
            self._accounts.clear()
            self._forgotten.append(name)
            self.noted = True
            self.settle()

    # ---- the card

    def oldest(self) -> Reading | None:
        """Return the oldest reading that is only in memory and that some uplink has not delivered."""
        for kept in self.kept:
            if any(follower.lacks(kept) for follower in self.followers.values()):
                return kept
        start = max(self.flushed, self.floor)
        found = self.tail.slice(start, start + 1)
        return found[0] if found else None

    def unwritten(self) -> dict[str, int]:
        """Return how many readings of each stream are only in memory, and lacking to some uplink."""
        readings = [*self.kept, *self.tail.slice(max(self.flushed, self.floor), self.next_id)]
        return Counter(one.stream for one in readings if any(each.lacks(one) for each in self.followers.values()))

    def due(self, interval: float, lead: float, last: float) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write.

        No reading may exist only in memory for longer than `interval` seconds, so a transaction, which takes up to
        `lead`, begins that much earlier. What only tidies up waits until `TIDY` after the `last` one.
        """
        if self.urgent:
            return float("-inf")
        due = []
        if (oldest := self.oldest()) is not None:
            due.append(oldest.boot + interval - lead)
        if self.restless:
            due.append(last + max(interval, TIDY))
        return min(due) if due else None

    def begin(self) -> Commit:
        """Return what the next transaction has to write: all that is pending, the acknowledgements, the ledger."""
        floor = self.floor
        readings = self.kept + self.tail.slice(max(self.flushed, floor), self.next_id)
        if self.kept or self._is_choosy or any(len(follower.acked) > 1 for follower in self.followers.values()):
            followers = self.followers.values()
            readings = [one for one in readings if any(follower.lacks(one) for follower in followers)]
        if self.high_ids:
            self.high_ids.remove(0, floor)
        claims = {name: follower.claim for name, follower in self.followers.items()}
        void = not (readings or self.restless or self.urgent)
        then, self.urgent = self.urgent, []
        forgotten, self._forgotten = [one for one in self._forgotten if one not in self.followers], []
        salvaged, self.salvaged = self.salvaged, None
        self.dirty = self.noted = False
        streams = {} if self.durable_first else dict(self._seq)
        ledger, (aside, gone) = self.ledger.take(), self.quarantine.take()
        return Commit(
            readings,
            self.next_id,
            claims,
            floor,
            ledger,
            aside,
            gone,
            then,
            streams,
            self.high,
            void,
            forgotten=forgotten,
            salvaged=salvaged,
        )

    def finish(self, commit: Commit, blocks: int) -> None:
        """Note that a commit is on the card, which now holds `blocks` blocks."""
        self.blocks = blocks
        secured, weight = self.secured, self.weight
        self._secure(commit.upto)
        self.take_off([one for one in self.kept if one.id < commit.upto])
        self.kept = [one for one in self.kept if one.id >= commit.upto]
        self.flushed = max(self.flushed, commit.upto)
        if self.durable_first:
            self.visible = self.flushed
        for name, claim in commit.claims.items():
            if name in self.followers:
                self.followers[name].recorded = claim.acked[0][1]
        mean = (weight - self.weight) // max(1, self.secured - secured)
        self.tail.drop(min(self.flushed, self.tail.end - min(KEEP, KEEP_BYTES // max(1, mean))))

    def set_up_anew(self, present: Sequence[tuple[int, int]]) -> None:
        """Note that the card holds these [start, end) of ids: what is in memory and not among them is to be written."""
        self.blocks = len(present)
        self.flushed = max(self.tail.start, present[-1][1] if present else 0)
        if self.flushed < self.secured:
            for reading in self.tail.slice(self.flushed, self.secured):
                self.pending[reading.stream] += 1
                self.weight += weigh(reading.values)
            self.secured = self.flushed
        if self.durable_first:
            self.visible = self.flushed

    def forget(self) -> None:
        """Forget what is in memory and needs not be: it is on the card, or has met its end everywhere."""
        start = max(self.flushed, self.tail.start)
        gaps = [next(follower.acked.gaps(start, self.next_id), None) for follower in self.followers.values()]
        end = min((gap[0] for gap in gaps if gap is not None), default=self.next_id)
        self._secure(end)
        self.flushed = max(self.flushed, end)
        self.tail.drop(end)

    def keep_high(self, end: int) -> None:
        """Forget the tail below `end`, where nothing is lacking but what is of high priority: keep that beside it.

        It is written, and read back, as if it were on the card already.
        """
        followers = self.followers.values()
        readings = [*self.kept, *self.tail.slice(max(self.flushed, self.tail.start), end)]
        needed = [one for one in readings if any(follower.lacks(one) for follower in followers)]
        self.take_off(self.kept)
        self._secure(end)
        for one in needed:
            self.pending[one.stream] += 1
            self.weight += weigh(one.values)
        self.kept = needed
        self.flushed = max(self.flushed, end)
        self.tail.drop(end)

    def failed(self, commit: Commit) -> None:
        """Note that a commit did not happen: all of it has to be in the next one."""
        self.ledger.restore(commit.losses)
        self.quarantine.restore(commit.aside, commit.gone)
        self.urgent[:0] = commit.then
        self._forgotten[:0] = commit.forgotten
        self.salvaged = self.salvaged or commit.salvaged
        self.dirty = self.noted = True

    # ----

    def _secure(self, end: int) -> None:
        """Take what is below `end` off the account of what exists only in memory."""
        if end <= self.secured:
            return
        readings = self.tail.slice(self.secured, end)
        self.secured = end
        self.take_off(readings if self.has_card else [reading for reading in readings if reading is not None])

    def _accounts_of(self, stream: str) -> list[Account]:
        """Return the accounts of all who want this stream."""
        accounts = [follower.account for follower in self.followers.values() if follower.wants(stream)]
        self._accounts[stream] = accounts
        return accounts

    def take_off(self, readings: Sequence[Reading]) -> None:
        """Take these off the account of what exists only in memory."""
        for reading in readings:
            self.pending[reading.stream] -= 1
        if self._publications:
            self.weight -= sum([weigh(reading.values) for reading in readings])
        else:
            self.weight -= A_READING * len(readings)
