"""The committer: a keeper that decides when the card is written, and what is given up when it is full."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.backoff import Backoff
from gateway.outbox.bounds import Bounds
from gateway.outbox.follower import Page
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Commit, Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.store import Store, Written
from gateway.outbox.times import Times
from gateway.outbox.writer import Writer

MARGIN = 0.02
"""Seconds that the writer's thread may have to wait for its turn on a busy machine."""
LEAD = 0.25
"""Part of the interval by which a transaction begins earlier, at most, so that it is over in time."""
SHED = 1 << 16
"""Bytes that are given up at once, at least, when the outbox is full."""
AGING = 1.0
"""Seconds between two looks for what is too old, at least, while nothing else is written."""


class Committer:
    """One transaction at a time, begun so early that no reading is only in memory for longer than `interval` seconds.

    `on_change` is called after every transaction, done or failed. See `Keeper`.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        writer: Writer,
        times: Times,
        bounds: Bounds,
        *,
        interval: float,
        on_change: Callable[[], None],
        logger: Any,
    ) -> None:
        self.commits = 0
        self.used = 0  # bytes on the card
        self._log = log
        self._store = store
        self._writer = writer
        self._times = times
        self._bounds = bounds
        self._interval = interval
        self._on_change = on_change
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(0.2, 5.0)
        self._cost = 0.0  # seconds that a transaction takes, lately
        self._last = times.now()  # when the last one began
        self._retry_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tidying = False  # the timer is only for what may wait
        self._busy: asyncio.Task[None] | None = None
        self._wanted = 0  # somebody waits for every id below
        self._upto = 0  # every id below is in the transaction that is under way, or was in an earlier one
        self._over, self._next_over = asyncio.Event(), asyncio.Event()  # that transaction, and the one after it
        self._full, self._reason = False, "full"
        self._failing = False
        self._closed = False
        self._aging: asyncio.TimerHandle | None = None
        if bounds.max_age is not None:
            self._look_for_age(0.0)  # at what an earlier run has left

    def schedule(self) -> None:
        """Arrange for the next transaction, after something was put in or has met its end. Once for many readings."""
        if self._timer is not None:
            if not self._tidying and not self._pressed:  # then it is for an older reading than what was put in just now
                return
            self._timer.cancel()
            self._timer = None
        if self._busy is not None or self._closed:
            return
        if (due := self._due()) is not None:
            delay = due - self._times.now()
            if delay <= 0.0:
                self.begin()
            else:
                self._tidying = self._log.oldest() is None
                self._timer = self._loop.call_later(delay, self._on_timer)

    def begin(self) -> None:
        """Start a transaction now, unless one is under way or there is nothing to write."""
        if self._busy is None and not self._closed and self._due() is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._busy = self._loop.create_task(self._commit())

    def secure(self, then: Callable[[], None]) -> None:
        """Call `then` once all that the log knows now is on the card; what is asked for meanwhile shares the next."""
        self._log.urgent.append(then)
        self.schedule()

    async def stored(self, one: int) -> None:
        """Return once this id is on the card, or needs not be. Many that wait cost little."""
        while not self._log.is_stored(one) and not self._closed:
            self._wanted = max(self._wanted, one + 1)
            self.schedule()
            await (self._over if self._busy is not None and one < self._upto else self._next_over).wait()

    async def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[tuple[int, int]]]:
        """Read back, after a while if the card cannot be read now. See `Keeper`."""
        try:
            return await self._writer.submit(partial(self._store.read, start, upto, limit))
        except sqlite3.Error as error:
            await asyncio.sleep(self._trouble("read", error))
            return Page(start, start, []), []

    async def ledger(self) -> list[Loss]:
        """Return the ledger: what is on the card, and what will be with the next transaction."""
        pending = list(self._log.ledger.losses)
        return await self._writer.submit(self._store.ledger) + pending

    async def quarantined(self) -> list[Quarantined]:
        """Return what is set aside: what is on the card, and what will be with the next transaction."""
        pending = self._log.quarantine.copy()
        return pending.view(await self._writer.submit(self._store.quarantined))

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now. Gives up, loudly, after three failures."""
        log = self._log
        for _ in range(3):
            while self._busy is not None:
                await asyncio.wait([self._busy])
            if log.oldest() is None and not log.restless and not log.urgent:
                return
            self.begin()
        if self._busy is not None:
            await asyncio.wait([self._busy])
        if (oldest := log.oldest()) is not None:
            count = log.next_id - oldest.id
            self._logger.error(
                "the card cannot be written; readings that exist only in memory are lost", readings=count
            )

    async def alive(self) -> None:
        """Return when the thread has got through all that it had to do."""
        await self._writer.submit(lambda: None)

    async def close(self) -> None:
        """Begin no further transaction, and close the file."""
        self._closed = True
        for timer in (self._timer, self._aging):
            if timer is not None:
                timer.cancel()
        self._over.set()
        self._next_over.set()
        self._writer.submit(partial(self._store.close, clean=self._log.oldest() is None))
        if not await self._writer.stop(3.0):
            self._logger.error("the card does not answer; left without closing the outbox")

    @property
    def _pressed(self) -> bool:
        """Whether somebody waits for the next transaction."""
        log = self._log
        return bool(log.urgent) or self._wanted > log.flushed or (log.durable_first and log.oldest() is not None)

    def _trouble(self, what: str, error: sqlite3.Error) -> float:
        """Say, once, that the card cannot be `what`, and return the seconds to wait before trying again."""
        if not self._failing:
            self._failing = True
            self._logger.error(f"the outbox cannot be {what}; readings stay in memory until it can", error=str(error))
        return self._backoff.next()

    def _due(self) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write."""
        lead = min(self._interval * LEAD, 2 * self._cost + MARGIN)
        due = self._log.due(self._interval, lead, self._last)
        if due is not None and self._pressed:
            due = 0.0
        return None if due is None else max(due, self._retry_at)

    def _on_timer(self) -> None:
        self._timer = None
        due = self._due()
        if due is not None and due <= self._times.now() + 0.001:
            self.begin()
        else:
            self.schedule()

    async def _commit(self) -> None:
        log = self._log
        if self._full and self._bounds.drop_newest:
            self._bounds.give_up(log.tail.slice(log.flushed, log.next_id), self._reason)
            self._bounds.tell()
        commit, correction = log.begin(), self._times.correction()
        self._upto = commit.upto
        self._over, self._next_over = self._next_over, asyncio.Event()
        began = self._last = self._times.now()
        try:
            written = await self._writer.submit(partial(self._store.commit, commit, correction))
        except sqlite3.Error as error:
            log.failed(commit)
            self._retry_at = self._times.now() + self._trouble("written", error)
        except BaseException:
            log.failed(commit)
            raise
        else:
            self._cost += (self._times.now() - began - self._cost) / 4
            self._times.stored(correction)
            self._done(commit, written)
            await self._bound(written)
        finally:
            self._busy = None
            self._over.set()
            self._on_change()
            self.schedule()

    def _done(self, commit: Commit, written: Written) -> None:
        self.commits += 1
        self.take_note(written)
        self._log.finish(commit, written.blocks)
        self._retry_at = 0.0
        if self._failing:
            self._failing = False
            self._backoff.reset()
            self._logger.info("the outbox can be written again")
        for then in commit.then:
            self._loop.call_soon(then)

    def take_note(self, written: Written) -> None:
        """Take note of how full the card is."""
        self.used = written.used
        self._full, self._reason = written.used > written.limit, written.reason
        self._bounds.on_card(written.used, written.limit, "max_size" if self._reason == "full" else "keep_free")

    async def _bound(self, written: Written) -> None:
        """Give up what is too much or too old; the next transaction deletes it."""
        if not written.blocks:
            return
        gone = 0
        with suppress(sqlite3.Error):  # the next transaction will meet it, and say so
            if self._full and self._bounds.drop_oldest:
                gone += await self._shed(max(SHED, written.used - written.limit))
            for follower, count in self._bounds.excess():
                read = partial(self._store.read, follower.todo.first[0], self._log.flushed, count)
                page, _ = await self._writer.submit(read)
                gone += self._bounds.give_up_of(follower, page.readings, "count", count)
            if self._bounds.max_age is not None:
                oldest = await self._writer.submit(partial(self._store.oldest, 1))
                gone += self._bounds.give_up_too_old(oldest)
                self._look_for_age(max(AGING, self._bounds.too_old_in(oldest)))
        if gone:
            self._bounds.tell()
            self._last = float("-inf")  # it is due now

    def _look_for_age(self, wait: float) -> None:
        """See to it that there is a transaction in `wait` seconds, after which what is too old is given up."""
        if self._aging is not None:
            self._aging.cancel()
        self._aging = None if self._closed else self._loop.call_later(wait, self._on_age)

    def _on_age(self) -> None:
        self._aging = None
        self._log.noted = True
        self._last = float("-inf")  # it is due now
        self.schedule()

    async def _shed(self, size: int) -> int:
        """Give up the oldest `size` bytes; what is with a broker only if there is nothing else."""
        flying = [span for follower in self._log.followers.values() for span in follower.in_flight()]
        oldest = await self._writer.submit(partial(self._store.oldest, size, flying))
        if gone := self._bounds.give_up(oldest, self._reason):
            return gone
        oldest = await self._writer.submit(partial(self._store.oldest, size))
        return self._bounds.give_up(oldest, self._reason, in_flight=True)
