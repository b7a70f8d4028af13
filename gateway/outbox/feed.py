"""A feed: an uplink's view of the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import orjson

from gateway.outbox import ends
from gateway.outbox.claims import Account
from gateway.outbox.follower import Follower
from gateway.outbox.keeper import Keeper
from gateway.outbox.log import Log
from gateway.outbox.ranges import END
from gateway.outbox.shelf import Page, Shelf
from gateway.outbox.times import Times
from gateway.reading import Reading

PAGE = 2000
"""Readings read back at once."""


class Feed:
    """What one uplink has to deliver, oldest first.

    What was taken meets one of these ends: acknowledged, rejected, quarantined, dropped by the outbox; or it is left,
    and will be taken again. With QoS 2 it is released on the way.
    """

    def __init__(
        self,
        follower: Follower,
        log: Log,
        times: Times,
        keeper: Keeper,
        *,
        on_progress: Callable[[], None],
        logger: Any,
    ) -> None:
        self.account: Account = follower.account
        self.moments = times.moments
        self.horizon = follower.horizon
        """Every id below was taken in by an earlier run."""
        self.was_sent = follower.was_sent
        """Tells of an id whether a broker may have seen it on an earlier link, or in an earlier run."""
        self._times = times
        self._follower = follower
        self._log = log
        self._keeper = keeper
        self._on_progress = on_progress
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()
        self._pressing = False

    def on_ready(self, call: Callable[[], None]) -> None:
        """Have `call` called when there may be something to take: once for many readings, never from within `take`."""
        self._follower.on_ready = call

    @property
    def on_fate(self) -> Callable[[Sequence[int], str | None], None]:
        """Called with ids that have met their end, and None if they were acknowledged, else the reason.

        Once for many, and exactly once for each id; from the loop, and never before `Outbox.accept` has returned it.
        """
        return self._follower.on_fate

    @on_fate.setter
    def on_fate(self, call: Callable[[Sequence[int], str | None], None]) -> None:
        self._follower.on_fate = call

    @property
    def frontier(self) -> int:
        """Every id below is backlog, and every other live; 0: no difference is made."""
        return self._follower.frontier

    def begin_live(self) -> None:
        """From now on, give what is taken in before what was."""
        self._follower.frontier = self._log.next_id

    def take(self, limit: int, upto: int | None = None, backlog: int | None = None) -> list[Reading]:
        """Return up to `limit` readings to send now, all with id < `upto`.

        First what is of high priority, then what is live, and of the backlog no more than `backlog`; in each the oldest
        first. Fewer, or none, when the rest has to come from the card first.
        """
        if self._times.holding:
            return []
        follower = self._follower
        readings = self._log.take(follower, limit, END if upto is None else upto, END if backlog is None else backlog)
        for shelf, start, end in follower.wanted(self._log.tail.start):
            shelf.loading = True
            self._begin(self._load(shelf, start, end))
        if follower.passed_over:
            follower.passed_over = False
            self._log.settle()
            self._on_progress()
        if not readings and upto is not None and follower.todo.first[0] < self._log.next_id:
            self._press()
        return readings

    def age(self, reading: Reading) -> float:
        """Return for how many seconds it has been in the outbox, at least. See `Times.age`."""
        return self._times.age(reading)

    def waits(self, one: int) -> bool:
        """Say whether this id has not met its end."""
        return one not in self._follower.acked

    @property
    def oldest(self) -> int | None:
        """The lowest id that has not met its end; None if there is none."""
        floor = self._follower.floor
        return floor if floor < self._log.next_id else None

    @property
    def recorded(self) -> int:
        """Every id below has met its end, and that would survive a power cut."""
        return self._follower.recorded if self._log.has_card else self._follower.floor

    def _press(self) -> None:
        """Have what has met its end recorded at once: the next reading may not be taken before."""
        if self._pressing or self._follower.floor <= self.recorded:
            return
        self._pressing = True

        def recorded() -> None:
            self._pressing = False
            self._follower.on_ready()

        self._keeper.secure(recorded)

    # ---- what became of it

    def acknowledged(self, ids: list[int]) -> None:
        """A broker has taken these over."""
        self._log.acknowledge(self._follower, ids)
        self._on_progress()

    def left(self, ids: Iterable[int], *, sent: bool = True) -> None:
        """The link was lost, or (`sent` = False) these were not sent after all: they are to be taken again."""
        self._follower.left(ids, sent=sent)
        self._on_progress()

    def rejected(self, ids: Sequence[int], reason: str) -> None:
        """No broker of this uplink will ever take these: into the ledger with them."""
        self._end(ids, reason, self._lose)

    def quarantine(self, ids: Sequence[int], reason: str) -> None:
        """Set these aside, where they can be looked at, tried again or discarded."""
        self._end(ids, reason, self._set_aside)

    # ---- QoS 2, and what has to be known after a restart

    @property
    def released(self) -> list[int]:
        """The ids whose PUBREC was received and whose PUBCOMP was not, in ascending order."""
        return sorted(self._follower.released)

    def release(self, ids: Sequence[int], then: Callable[[], None]) -> None:
        """Note that a broker has received these, and call `then` once that would survive a power cut.

        They are not taken again, in no later run either, until `unrelease`. Acknowledged ones are no longer released.
        """
        self._follower.release(ids)
        self._log.noted = True
        self._keeper.secure(then)

    def unrelease(self) -> None:
        """The broker has forgotten the session: what was released is to be sent again.

        Nothing can be taken before that would survive a power cut: else a later run would take the end of an exchange
        for done, of which this one has begun anew.
        """
        if ids := self._follower.unrelease():
            self._follower.held = self._log.noted = True
            self._keeper.secure(lambda: self._unreleased(ids))

    @property
    def session(self) -> dict[str, Any]:
        """What was remembered last, in this run or an earlier one; empty at first."""
        return self._follower.session

    def remember(self, session: dict[str, Any], then: Callable[[], None] | None = None) -> None:
        """Keep this for a later run: with the next transaction, or at once if `then` is to be called after it.

        Raises TypeError for what JSON cannot hold.
        """
        self._follower.session = orjson.loads(orjson.dumps(session))
        self._log.noted = True
        if then is not None:
            self._keeper.secure(then)
        else:
            self._on_progress()

    # ----

    async def close(self) -> None:
        """Stop reading from the card."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unreleased(self, ids: list[int]) -> None:
        self._follower.held = False
        self._follower.left(ids, sent=True)
        self._follower.on_ready()

    async def _load(self, shelf: Shelf, start: int, upto: int) -> None:
        """Read the next page, and tell the uplink."""
        try:
            page, damaged = await self._keeper.read(start, upto, PAGE)
        finally:
            shelf.loading = False
        if damaged and (lost := ends.damaged(self._log, self._follower, damaged)):
            self._logger.error("a part of the outbox is damaged", blocks=len(damaged), readings=lost)
            self._follower.tell()
            self._on_progress()
        shelf.put(page)
        self._follower.on_ready()

    def _end(self, ids: Sequence[int], reason: str, end: Callable[[Sequence[Reading], str], None]) -> None:
        readings, elsewhere = [], []
        for one in ids:
            if found := self._log.tail.slice(one, one + 1):
                readings += found
            else:
                self._follower.todo.remove(one, one + 1)  # nobody takes it while it is looked for
                elsewhere.append(one)
        self._ended(readings, reason, end)
        if elsewhere:
            self._begin(self._end_on_card(elsewhere, reason, end))

    async def _end_on_card(
        self, ids: Sequence[int], reason: str, end: Callable[[Sequence[Reading], str], None]
    ) -> None:
        readings: list[Reading] = []
        for one in ids:
            page = Page(one, one, [])
            while page.end <= one:
                page, damaged = await self._keeper.read(one, one + 1, 1)
                ends.damaged(self._log, self._follower, damaged)
            readings += [reading for reading in page.readings if reading.id == one]
        self._ended(readings, reason, end)

    def _ended(self, readings: Sequence[Reading], reason: str, end: Callable[[Sequence[Reading], str], None]) -> None:
        end(readings, reason)
        self._follower.tell()
        self._on_progress()

    def _lose(self, readings: Sequence[Reading], reason: str) -> None:
        count = ends.lose(self._log, self._follower, readings, reason, self._times.wall)
        if count:
            self._logger.warning(f"{self._follower.name}: readings in the ledger", reason=reason, readings=count)

    def _set_aside(self, readings: Sequence[Reading], reason: str) -> None:
        count = ends.set_aside(self._log, self._follower, readings, reason, self._times.utc(), self._times.wall)
        if count:
            self._logger.warning(f"{self._follower.name}: readings in quarantine", reason=reason, readings=count)
