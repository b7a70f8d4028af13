"""The outbox: put readings in, follow them, acknowledge them; it decides when the card is written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import structlog

from gateway.backoff import Backoff
from gateway.clock import Clock
from gateway.outbox.feed import Feed
from gateway.outbox.log import Commit, Follower, Log, Page
from gateway.outbox.store import Epoch, Store, Written
from gateway.outbox.writer import Writer
from gateway.reading import EPOCH_SHIFT, Reading, Value

ROOM = 8000
"""Readings of one stream that may exist only in memory; beyond that its device waits."""
PATIENCE = 0.05
"""Seconds that a device waits for the uplinks to make room before the card has to."""
PAGE = 2000
"""Readings read back at once."""
SHED = 1 << 16
"""Bytes that are given up at once, at least, when the outbox is full."""
DRIFT = 0.5
"""Seconds by which the clock must have been corrected before the card is told."""


class Outbox:
    """The durable queue between devices and uplinks.

    `commit_interval` is the longest, in seconds, that a reading exists only in memory; 0 means on the card before it is
    sent. Sizes are in bytes, `max_age` in seconds. Use as `async with`; opening raises OutboxError.
    """

    def __init__(
        self,
        path: Path,
        uplinks: Sequence[str],
        *,
        commit_interval: float = 1.0,
        max_size: int = 10**9,
        keep_free: int = 0,
        max_age: float | None = None,
        when_full: str = "drop-oldest",
        clock: Clock | None = None,
        logger: Any = None,
    ) -> None:
        self.interval = commit_interval
        self.commits = 0
        self.used = 0
        self.lost = 0
        self._uplinks = list(uplinks)
        self._max_age = max_age
        self._drop_newest = when_full == "drop-newest"
        self._clock = clock or Clock()
        self._logger = logger or structlog.get_logger()
        self._store = Store(path, max_size=max_size, keep_free=keep_free)
        self._writer = Writer()
        self._backoff = Backoff(0.2, 5.0)
        self._log: Log
        self._epochs: list[Epoch] = []
        self._offsets: dict[int, float] = {}
        self._offset = 0.0  # as used now
        self._offset_stored = 0.0  # as the card knows it
        self._cost = 0.0  # seconds that a commit takes, lately
        self._timer: asyncio.TimerHandle | None = None
        self._retry_at = 0.0
        self._last = 0.0
        self._busy: asyncio.Task[None] | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self._waking = False
        self._room: asyncio.Future[None] | None = None
        self._pressing: asyncio.TimerHandle | None = None
        self._full = False
        self._failing = False
        self._closed = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        self._offset = self._offset_stored = self._clock.offset()
        try:
            state, self._epochs = await self._writer.submit(
                partial(self._store.open, self._clock.boot_id, self._offset)
            )
        except BaseException:
            await self._writer.stop(1.0)
            raise
        self._log = Log(state, self._uplinks, durable_first=self.interval == 0)
        self._offsets = {epoch.id: epoch.offset for epoch in self._epochs}
        self._correct(self._offset)
        self._last = self._clock.boot()
        for name in self._log.followers.keys() - set(self._uplinks):
            waiting = self._log.followers[name].account.waiting
            self._logger.warning(
                f'uplink "{name}" is no longer in the config; the outbox keeps what it has not delivered',
                waiting=waiting,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.flush()
        finally:
            self._closed = True
            for timer in (self._timer, self._pressing):
                if timer is not None:
                    timer.cancel()
            for task in list(self._loads):
                task.cancel()
            if self._loads:
                await asyncio.wait(self._loads)
            self._writer.submit(self._store.close)
            if not await self._writer.stop(3.0):
                self._logger.error("the card does not answer; left without closing the outbox")

    # ---- devices put readings in

    def put(self, stream: str, values: dict[str, Value], time: float | None = None) -> Awaitable[None] | None:
        """Take a reading in; `time` is the device's own, in UTC seconds.

        Returns None, or something to wait for when this stream has too much in memory.
        """
        self._log.put(stream, values, self._clock.boot(), time)
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)
        if self._log.pending[stream] >= ROOM:
            return self._wait_for_room(stream)
        return None

    # ---- uplinks follow

    def follow(self, name: str) -> Feed:
        """Return the readings that the uplink `name` has to deliver."""
        return Feed(self, self._log.followers[name], self._log)

    def refresh(self) -> None:
        """Read the clock, so that `wall` tells the time at which a reading was measured as it is known now."""
        offset = self._clock.offset()
        if offset != self._offset:
            self._correct(offset)

    def wall(self, reading: Reading) -> float:
        """Return the UTC time in seconds at which the reading was measured."""
        return (
            reading.boot + self._offsets.get(reading.id >> EPOCH_SHIFT, self._offset)
            if reading.time is None
            else reading.time
        )

    def age(self, reading: Reading) -> float:
        """Return how many seconds ago it was taken in; infinite if that was in an earlier run."""
        return self._clock.boot() - reading.boot if reading.id >> EPOCH_SHIFT == self._log.epoch else float("inf")

    # ---- figures

    @property
    def epoch(self) -> int:
        """The number of this run of the gateway."""
        return self._log.epoch

    @property
    def taken_in(self) -> int:
        """How many readings were taken in during this run."""
        return self._log.taken_in

    @property
    def tail(self) -> int:
        """How many readings are in memory."""
        return len(self._log.tail)

    # ---- the card

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now. Gives up, loudly, after three failures."""
        for attempt in range(3):
            while self._busy is not None:
                await asyncio.wait([self._busy])
            log = self._log
            if log.oldest() is None and not log.losses and not (log.dirty and log.blocks):
                return
            if attempt and self._failing:
                await asyncio.sleep(0.2)
            self._begin()
        if self._busy is not None:
            await asyncio.wait([self._busy])
        if (oldest := self._log.oldest()) is not None:
            count = self._log.next_id - oldest.id
            self._logger.error(
                "the card cannot be written; readings that exist only in memory are lost", readings=count
            )

    async def alive(self) -> None:
        """Return when the writer thread has got through all that it had to do."""
        await self._writer.submit(lambda: None)

    def progress(self, lost: int = 0) -> None:
        """Note that an uplink has dealt with readings: there may be room, and something to write."""
        self.lost += lost
        if self._room is not None:
            self._make_room()
        if self._timer is None and self._log.dirty and self._log.blocks:
            self._schedule()

    def load(self, follower: Follower, start: int) -> None:
        """Read the next page for a follower, and tell it."""
        follower.loading = True
        task = self._loop.create_task(self._load(follower, start))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    def reject(self, follower: Follower, ids: Sequence[int], reason: str) -> None:
        """Put readings that were taken by a follower into the ledger."""
        task = self._loop.create_task(self._reject(follower, ids, reason))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _reject(self, follower: Follower, ids: Sequence[int], reason: str) -> None:
        readings: list[Reading] = []
        for one in ids:
            found = self._log.tail.slice(one, one + 1)
            if not found:
                page, _ = await self._writer.submit(partial(self._store.read, one, one + 1, 1))
                found = [reading for reading in page.readings if reading.id == one]
            readings += found
        count = self._log.lose(follower, readings, reason, self.wall)
        self._logger.warning(f"{follower.name}: readings in the ledger", reason=reason, readings=count)
        self.progress(count)
        self._schedule()

    async def _load(self, follower: Follower, start: int) -> None:
        upto = self._log.tail.start
        try:
            page, damaged = await self._writer.submit(partial(self._store.read, start, upto, PAGE))
        except sqlite3.Error as error:
            self._trouble("read", error)
            await asyncio.sleep(self._backoff.next())
            page, damaged = Page(start, start, []), []
        finally:
            follower.loading = False
        if damaged:
            lost = sum(loss.count for loss in damaged)
            self._logger.error("a part of the outbox is damaged", blocks=len(damaged), readings=lost)
            self._log.damaged(follower, damaged)
        if page.end > page.start:
            follower.pages.append(page)
        follower.on_ready()

    def _wake(self) -> None:
        self._waking = False
        if self.interval == 0:
            self._begin()
        else:
            for follower in self._log.followers.values():
                follower.on_ready()
            if self._timer is None:
                self._schedule()

    def _due(self) -> float | None:
        """Return the time since boot at which the next transaction must begin; None if there is nothing to write."""
        lead = min(self.interval / 4, 2 * self._cost + 0.005)
        due = self._log.due(self.interval, lead, self._last)
        return None if due is None else max(due, self._retry_at)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy is None and not self._closed and (due := self._due()) is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._clock.boot()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due = self._due()
        if due is not None and due <= self._clock.boot() + 0.001:
            self._begin()
        else:
            self._schedule()

    def _begin(self) -> None:
        """Start a transaction, unless one is under way or there is nothing to write."""
        if self._busy is None and not self._closed and self._due() is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._busy = self._loop.create_task(self._commit())

    async def _commit(self) -> None:
        log = self._log
        if self._full and self._drop_newest:
            self._give_up(log.tail.slice(log.flushed, log.next_id), "full")
        commit = log.begin()
        drift = abs(self._offset - self._offset_stored) > DRIFT
        offset = (log.epoch, self._offset) if drift else None
        began = self._clock.boot()
        self._last = began
        try:
            written = await self._writer.submit(partial(self._store.commit, commit, offset))
        except sqlite3.Error as error:
            log.failed(commit)
            self._trouble("written", error)
            self._retry_at = self._clock.boot() + self._backoff.next()
        except BaseException:
            log.failed(commit)
            raise
        else:
            self._cost += (self._clock.boot() - began - self._cost) / 4
            if offset is not None:
                self._offset_stored = offset[1]
            self._done(commit, written)
            if written.used > written.limit:
                await self._shed(written)
        finally:
            self._busy = None
            if self._room is not None:
                self._make_room()
            self._schedule_next()

    def _done(self, commit: Commit, written: Written) -> None:
        self.commits += 1
        self.used = written.used
        self._log.finish(commit, written.blocks)
        self._full = written.used > written.limit
        self._retry_at = 0.0
        if self._failing:
            self._failing = False
            self._backoff.reset()
            self._logger.info("the outbox can be written again")
        if self._max_age is not None and written.blocks:
            self._loop.call_soon(self._expire)
        if self._log.durable_first:
            for follower in self._log.followers.values():
                follower.on_ready()

    def _schedule_next(self) -> None:
        if self.interval == 0 and self._log.oldest() is not None and self._retry_at == 0.0:
            self._begin()
        else:
            self._schedule()

    def _trouble(self, what: str, error: sqlite3.Error) -> None:
        if not self._failing:
            self._failing = True
            self._logger.error(f"the outbox cannot be {what}; readings stay in memory until it can", error=str(error))

    # ---- bounds

    async def _shed(self, written: Written) -> None:
        """Make room on the card: the oldest readings go into the ledger."""
        if self._drop_newest or not written.blocks:
            return
        size = max(SHED, written.used - written.limit)
        with suppress(sqlite3.Error):
            self._give_up(await self._writer.submit(partial(self._store.oldest, size)), "full")
            self._last = 0.0  # the transaction that deletes them is due now

    def _expire(self) -> None:
        if not self._closed and not self._loads:
            task = self._loop.create_task(self._drop_expired())
            self._loads.add(task)
            task.add_done_callback(self._loads.discard)

    async def _drop_expired(self) -> None:
        with suppress(sqlite3.Error):
            readings = await self._writer.submit(partial(self._store.oldest, 1))
            limit = self._clock.boot() + self._offset - (self._max_age or 0.0)
            self._give_up([reading for reading in readings if self.wall(reading) < limit], "too-old")

    def _give_up(self, readings: Sequence[Reading], reason: str) -> None:
        count = 0
        for follower in self._log.followers.values():
            count += self._log.lose(follower, readings, reason, self.wall)
        if count:
            if not self.lost:
                self._logger.warning(
                    "the outbox gives readings up; the ledger says which", reason=reason, readings=count
                )
            self.lost += count

    # ---- room

    async def _wait_for_room(self, stream: str) -> None:
        while self._log.pending[stream] >= ROOM // 2 and not self._closed:
            if self._room is None:
                self._room = self._loop.create_future()
            if self._pressing is None:
                self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)
            await asyncio.shield(self._room)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _press(self, secured: int) -> None:
        """If the uplinks have made no room for a while, the card has to."""
        self._pressing = None
        if self._room is not None and not self._closed:
            if self._log.secured == secured:
                self._begin()
            self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)

    def _correct(self, offset: float) -> None:
        self._offset = offset
        for epoch in self._epochs:
            if epoch.id == self._log.epoch or (epoch.boot_id and epoch.boot_id == self._clock.boot_id):
                self._offsets[epoch.id] = offset
