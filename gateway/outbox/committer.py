"""The committer: decides when the card is written, and what is given up when it is full."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.backoff import Backoff
from gateway.outbox.log import Commit, Log
from gateway.outbox.store import Store, Written
from gateway.outbox.times import Times
from gateway.outbox.writer import Writer
from gateway.reading import Reading

MARGIN = 0.02
"""Seconds that the writer's thread may have to wait for its turn on a busy machine."""
LEAD = 0.25
"""Part of the interval by which a transaction begins earlier, at most, so that it is over in time."""
WORDS = {
    "full": "it has reached [outbox] max_size",
    "no-space": "the card has no more free than [outbox] keep_free",
    "too-old": "they are older than [outbox] max_age",
}
SHED = 1 << 16
"""Bytes that are given up at once, at least, when the outbox is full."""


class Committer:
    """One transaction at a time, begun so early that no reading is only in memory for longer than `interval` seconds.

    `on_change` is called after every transaction, done or failed.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        writer: Writer,
        times: Times,
        *,
        interval: float,
        max_age: float | None,
        drop_newest: bool,
        on_change: Callable[[], None],
        logger: Any,
    ) -> None:
        self.commits = 0
        self.used = 0  # bytes on the card
        self._log = log
        self._store = store
        self._writer = writer
        self._times = times
        self._interval = interval
        self._max_age = max_age
        self._drop_newest = drop_newest
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
        self._full, self._reason = False, "full"
        self._failing = False
        self._gave_up: set[str] = set()  # reasons that the log knows
        self._closed = False

    def schedule(self) -> None:
        """Arrange for the next transaction, after something was put in or acknowledged. Once for many readings."""
        if self._timer is not None:
            if not self._tidying:  # then it is for an older reading than what was put in just now
                return
            self._timer.cancel()
            self._timer = None
        if self._busy is not None or self._closed:
            return
        if (due := self._due()) is not None:
            self._tidying = self._log.oldest() is None
            self._timer = self._loop.call_later(max(0.0, due - self._times.now()), self._on_timer)

    def begin(self) -> None:
        """Start a transaction now, unless one is under way or there is nothing to write."""
        if self._busy is None and not self._closed and self._due() is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._busy = self._loop.create_task(self._commit())

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now. Gives up, loudly, after three failures."""
        log = self._log
        for _ in range(3):
            while self._busy is not None:
                await asyncio.wait([self._busy])
            if log.oldest() is None and not log.losses and not (log.dirty and log.blocks):
                return
            self.begin()
        if self._busy is not None:
            await asyncio.wait([self._busy])
        if (oldest := log.oldest()) is not None:
            count = log.next_id - oldest.id
            self._logger.error(
                "the card cannot be written; readings that exist only in memory are lost", readings=count
            )

    def close(self) -> None:
        """Begin no further transaction."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def trouble(self, what: str, error: sqlite3.Error) -> float:
        """Say, once, that the card cannot be `what`, and return the seconds to wait before trying again."""
        if not self._failing:
            self._failing = True
            self._logger.error(f"the outbox cannot be {what}; readings stay in memory until it can", error=str(error))
        return self._backoff.next()

    def give_up(self, readings: Sequence[Reading], reason: str) -> None:
        """Put what any uplink still has of these into the ledger."""
        followers = self._log.followers.values()
        count = sum(self._log.lose(follower, readings, reason, self._times.wall) for follower in followers)
        if count and reason not in self._gave_up:
            self._gave_up.add(reason)
            self._logger.warning(
                f"the outbox gives readings up: {WORDS[reason]}; the ledger says which", readings=count
            )

    def _due(self) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write."""
        lead = min(self._interval * LEAD, 2 * self._cost + MARGIN)
        due = self._log.due(self._interval, lead, self._last)
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
        if self._full and self._drop_newest:
            self.give_up(log.tail.slice(log.flushed, log.next_id), self._reason)
        commit, correction = log.begin(), self._times.correction()
        began = self._last = self._times.now()
        try:
            written = await self._writer.submit(partial(self._store.commit, commit, correction))
        except sqlite3.Error as error:
            log.failed(commit)
            self._retry_at = self._times.now() + self.trouble("written", error)
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
            self._on_change()
            if self._interval == 0 and log.oldest() is not None and not self._failing:
                self.begin()
            self.schedule()

    def _done(self, commit: Commit, written: Written) -> None:
        self.commits += 1
        self.used = written.used
        self._log.finish(commit, written.blocks)
        self._full, self._reason = written.used > written.limit, written.reason
        self._retry_at = 0.0
        if self._failing:
            self._failing = False
            self._backoff.reset()
            self._logger.info("the outbox can be written again")

    async def _bound(self, written: Written) -> None:
        """Give up what is too old, and the oldest when the card is full; the next transaction deletes it."""
        if not written.blocks:
            return
        with suppress(sqlite3.Error):  # the next transaction will meet it, and say so
            if self._full and not self._drop_newest:
                size = max(SHED, written.used - written.limit)
                self.give_up(await self._writer.submit(partial(self._store.oldest, size)), self._reason)
                self._last = float("-inf")  # it is due now
            if self._max_age is not None:
                oldest = await self._writer.submit(partial(self._store.oldest, 1))
                limit = self._times.utc() - self._max_age
                self.give_up([reading for reading in oldest if self._times.wall(reading) < limit], "too-old")
