"""Shedding: what is thinned or given up where the card is too full, and what is because it is too old or too much."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.outbox.bounds import Bounds
from gateway.outbox.card.contents import Piece
from gateway.outbox.card.room import Written
from gateway.outbox.card.store import Store
from gateway.outbox.card.thin import Choice, Thinning
from gateway.outbox.card.writer import Writer
from gateway.outbox.commit import Commit
from gateway.outbox.log import Log
from gateway.outbox.ranges import Ranges
from gateway.outbox.shelf import Page
from gateway.outbox.times import Times

SHED = 1 << 16
"""Bytes that are given up at once, at least, when the outbox is full; less where it is small."""
PART = 16
"""So many times fits what is given up at once into what the outbox may take."""


class Shedding:
    """Chooses what goes after a transaction; it goes with the next.

    Each begins with `begin`, and ends with `done` or `failed`.
    """

    def __init__(self, log: Log, store: Store, writer: Writer, times: Times, bounds: Bounds) -> None:
        self.is_full = False
        self.reason = "full"
        self.too_old_in = 0.0  # seconds, from when that was looked for
        self._log = log
        self._store = store
        self._writer = writer
        self._times = times
        self._bounds = bounds
        self._choice: Choice | None = None
        self._rewriting = Ranges()  # what is being thinned
        self._spent: list[tuple[int, int]] = []  # [start, end) of blocks that nobody needs
        self._only_high = False  # there is nothing else on the card

    def take_note(self, written: Written) -> None:
        """Take note of how full the card is."""
        self.is_full, self.reason = written.used > written.limit, written.reason
        self._only_high = self._only_high and self.is_full
        self._bounds.on_card(written.used, written.limit, "max_size" if self.reason == "full" else "keep_free")

    def begin(self) -> Commit:
        """Return what the next transaction has to write, and what it has to thin and to delete."""
        self._refuse()
        thinning = self._thinning()  # before the log tells what is with a broker
        commit = self._log.begin()
        if thinning is None and not self._spent:
            return commit
        return replace(commit, thinning=thinning, spent=self._spent.copy(), void=False)

    def _refuse(self) -> None:
        """Give up what is new, where that is what goes."""
        log = self._log
        if self.is_full and self._bounds.drop_newest:
            new = log.tail.slice(log.flushed, log.next_id)
            self._bounds.give_up([one for one in new if self._only_high or not log.is_high(one.stream)], self.reason)
            self._bounds.tell()

    def _thinning(self) -> Thinning | None:
        """Return what is to be thinned, of what was chosen: what no link has taken since."""
        log = self._log
        choice, self._choice = self._choice, None
        if choice is None:
            return None
        flying = Ranges(self._flying())
        groups = [
            one for one in choice.groups if one.last < log.tail.start and not flying.overlap(one.first, one.last + 1)
        ]
        if len(groups) < len(choice.groups):
            choice = Choice(groups)
        spans = [(one.first, one.last + 1) for one in groups]
        for follower in log.followers.values():
            follower.spoil(spans)
            follower.shelf.clear()  # it is read again when it was thinned
        self._rewriting = Ranges(spans)
        lacks = {name: follower.lacking(spans) for name, follower in log.followers.items()}
        return Thinning(choice, lacks, self.reason, self._times.wall)

    def is_stale(self, page: Page) -> bool:
        """Say whether what was read back is being thinned, so that it has to be read again."""
        return self._rewriting.overlap(page.start, page.end) > 0

    def failed(self) -> None:
        """Note that the transaction did not happen."""
        self._rewriting = Ranges()

    def done(self, commit: Commit, written: Written) -> None:
        """Note what was thinned and deleted."""
        self._rewriting = Ranges()
        del self._spent[: len(commit.spent)]
        if written.thinned is None:
            return
        for name, ids in written.thinned.ids.items():
            self._log.followers[name].thinned(ids, self.reason)
        for loss in written.thinned.losses:
            self._log.ledger.on_enter(loss)
        self._bounds.warn(self.reason, max(map(len, written.thinned.ids.values()), default=0))
        self._bounds.tell()

    async def bound(self, commit: Commit, written: Written) -> bool:
        """Choose what is too much or too old, and return whether there is any. May raise sqlite3.Error."""
        if not written.blocks or self._log.hidden:  # of these, nobody knows who waits for them
            return False
        self._choice = None
        gone = 0
        if self.is_full:
            step = min(SHED, written.max_size // PART)
            if self._bounds.drop_newest:
                gone += await self._make_way_for(commit)
            elif not self._bounds.thins or not await self._choose(step):  # step by step, as it takes room to give room
                gone += await self._shed(max(written.used - written.limit, step))
        gone += await self._shorten()
        if self._bounds.max_age is not None:
            pieces = await self._writer.submit(partial(self._store.oldest, 1))
            gone += self._age(pieces)
            self.too_old_in = self._bounds.too_old_in([one for piece in pieces for one in piece.readings])
        if gone:
            self._bounds.tell()
        return gone > 0 or self._choice is not None

    async def _choose(self, size: int) -> bool:
        """Choose what is to be thinned; say whether there is anything.

        What is in memory as well is spared, because whoever is not far behind takes it next; unless that is much.
        """
        log = self._log
        most = max(follower.account.waiting for follower in log.followers.values())
        if (log.flushed - log.tail.start) * PART > most:
            log.forget()
        while True:
            choose = partial(self._store.choose, list(self._flying()), log.tail.start, size)
            choice = await self._writer.submit(choose)
            if choice.groups:
                self._choice = choice
                return True
            if choice.more:
                continue
            if log.tail.start >= log.flushed:
                return False
            log.forget()

    async def _shed(self, size: int) -> int:
        """Give up the oldest `size` bytes.

        What is with a broker goes only if there is nothing else, and what is of high priority after everything else.
        """
        for high in (False, True) if self._log.high_ids else (None,):
            for in_flight in (False, True):
                spared = [] if in_flight else list(self._flying())
                pieces = await self._writer.submit(partial(self._store.oldest, size, spared, high=high))
                if gone := sum(self._give_up(piece, self.reason, in_flight=in_flight) for piece in pieces):
                    return gone
        return 0

    async def _make_way_for(self, commit: Commit) -> int:
        """Give up the newest block in place of what is new and of high priority."""
        if self._only_high or not any(self._log.is_high(one.stream) for one in commit.readings):
            return 0
        pieces = await self._writer.submit(partial(self._store.newest, list(self._flying())))
        gone = sum(self._give_up(piece, self.reason) for piece in pieces)
        self._only_high = not gone
        return gone

    async def _shorten(self) -> int:
        """Give up what is more than may wait for an uplink, in number."""
        log, gone = self._log, 0
        for follower, count in self._bounds.excess():
            for high in (False, True) if log.high else (False,):
                at = follower.todo.first[0]
                while count > 0 and at < log.flushed:
                    page, _ = await self._writer.submit(partial(self._store.read, at, log.flushed, count))
                    some = [one for one in page.readings if log.is_high(one.stream) is high]
                    fewer = self._bounds.give_up_of(follower, some, "count", count)
                    gone, count, at = gone + fewer, count - fewer, max(page.end, at + 1)
        return gone

    def _age(self, pieces: list[Piece]) -> int:
        gone = 0
        for piece in pieces:
            gone += self._bounds.give_up_too_old(piece.readings, piece.level) + self._close(piece)
        return gone

    def _give_up(self, piece: Piece, why: str, *, in_flight: bool = False) -> int:
        """Return more than 0 if there is more room then."""
        gone = self._bounds.give_up(piece.readings, why, in_flight=in_flight, level=piece.level)
        return gone + self._close(piece)

    def _close(self, piece: Piece) -> int:
        """Have nobody wait for ids that are not there any more, in front of the first reading that he lacks."""
        closed, ends = 0, []
        for follower in self._log.followers.values():
            end = next((one.id for one in piece.readings if follower.lacks(one)), piece.end)
            closed += follower.close(piece.start, end)
            ends.append(end)
        if min(ends) == piece.end:
            self._spent.append((piece.start, piece.end))
            closed += 1  # it is done with, though it may be behind something that is not
        if closed:
            self._log.settle()
        return closed

    def _flying(self) -> list[tuple[int, int]]:
        return [span for follower in self._log.followers.values() for span in follower.in_flight()]
