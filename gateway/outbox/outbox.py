"""The outbox: put readings in, and follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import structlog

from gateway.clock import Clock
from gateway.outbox.committer import Committer
from gateway.outbox.feed import Feed
from gateway.outbox.log import Log
from gateway.outbox.store import Store
from gateway.outbox.times import Times
from gateway.outbox.writer import Writer
from gateway.reading import Value

ROOM = 8000
"""Readings of one stream that may exist only in memory; beyond that its device waits."""
CALM = 0.001
"""Seconds without a reading after which the next one is sent at once; in between they go together."""
LITTLE = 500_000
"""Bytes of room in the outbox that are worth a warning at start."""
PATIENCE = 0.05
"""Seconds that a device waits for the uplinks to make room before the card has to."""


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
        self._uplinks = list(uplinks)
        self._interval = commit_interval
        self._max_age = max_age
        self._drop_newest = when_full == "drop-newest"
        self._clock = clock or Clock()
        self._logger = logger or structlog.get_logger()
        self._store = Store(path, max_size=max_size, keep_free=keep_free)
        self._writer = Writer()
        self._log: Log
        self._committer: Committer
        self._feeds: dict[str, Feed] = {}
        self._waking = False
        self._woke = 0.0  # seconds since boot
        self._rooms: dict[str, asyncio.Future[None]] = {}  # what the devices of these streams wait for
        self._pressing: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        _, offset = self._clock.read()
        try:
            state, epochs = await self._writer.submit(partial(self._store.open, self._clock.boot_id, offset))
            room = await self._writer.submit(self._store.written)
        except BaseException:
            self._writer.submit(self._store.close)  # also what an opening that was cancelled has opened by then
            await self._writer.stop(1.0)
            raise
        self._log = Log(state, self._uplinks, durable_first=self._interval == 0)
        times = Times(self._clock, epochs, offset)
        self._committer = Committer(
            self._log,
            self._store,
            self._writer,
            times,
            interval=self._interval,
            max_age=self._max_age,
            drop_newest=self._drop_newest,
            on_change=self._on_commit,
            logger=self._logger,
        )
        if room.limit - room.used < LITTLE:
            self._logger.warning(
                "the outbox has next to no room, and readings that cannot be sent will go into the ledger: "
                "make room on the card, or change keep_free or max_size in [outbox]",
                **{"free on the card": room.free, "the outbox may take": room.limit, "it takes": room.used},
            )
        for name, follower in self._log.followers.items():
            self._feeds[name] = Feed(
                follower,
                self._log,
                self._store,
                self._writer,
                times,
                self._committer,
                on_progress=self._on_progress,
                logger=self._logger,
            )
            if name not in self._uplinks:
                self._logger.warning(
                    f'uplink "{name}" is no longer in the config; the outbox keeps what it has not delivered',
                    waiting=follower.account.waiting,
                )
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._committer.flush()
        finally:
            self._committer.close()
            if self._pressing is not None:
                self._pressing.cancel()
            for feed in self._feeds.values():
                await feed.close()
            self._writer.submit(self._store.close)
            if not await self._writer.stop(3.0):
                self._logger.error("the card does not answer; left without closing the outbox")

    def put(self, stream: str, values: dict[str, Value], time: float | None = None) -> Awaitable[None] | None:
        """Take a reading in; `time` is the device's own, in UTC seconds.

        Returns None, or something to wait for when this stream has too much in memory.
        """
        now = self._clock.boot()
        self._log.put(stream, values, now, time)
        if not self._waking:
            if now - self._woke > CALM:
                self._woke = now
                self._wake()
            else:
                self._waking = True
                self._loop.call_soon(self._wake)
        if self._log.pending[stream] >= ROOM:
            return self._wait_for_room(stream)
        return None

    def follow(self, name: str) -> Feed:
        """Return the readings that the uplink `name` has to deliver."""
        return self._feeds[name]

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now."""
        await self._committer.flush()

    async def alive(self) -> None:
        """Return when the writer thread has got through all that it had to do."""
        await self._writer.submit(lambda: None)

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

    @property
    def commits(self) -> int:
        """How many transactions this run has made."""
        return self._committer.commits

    @property
    def used(self) -> int:
        """How many bytes the outbox takes on the card, as of the last transaction."""
        return self._committer.used

    def _wake(self) -> None:
        """Tell the uplinks, or the card first, of what was put in since the last turn of the loop."""
        self._waking = False
        if self._log.durable_first:
            self._committer.begin()
            return
        for follower in self._log.followers.values():
            follower.on_ready()
        self._committer.schedule()

    def _on_commit(self) -> None:
        if self._rooms:
            self._make_room()
        if self._log.durable_first:
            for follower in self._log.followers.values():
                follower.on_ready()

    def _on_progress(self) -> None:
        """An uplink has dealt with readings: there may be room, and something to write."""
        if self._rooms:
            self._make_room()
        if self._log.losses or (self._log.dirty and self._log.blocks):
            self._committer.schedule()

    # ---- room in memory

    def _wait_for_room(self, stream: str) -> asyncio.Future[None]:
        room = self._rooms.get(stream)
        if room is None or room.done():
            room = self._rooms[stream] = self._loop.create_future()
        if self._pressing is None:
            self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)
        return room

    def _make_room(self) -> None:
        for stream, room in list(self._rooms.items()):
            if self._log.pending[stream] < ROOM // 2:
                del self._rooms[stream]
                if not room.done():
                    room.set_result(None)

    def _press(self, secured: int) -> None:
        """If the uplinks have made no room for a while, the card has to."""
        self._pressing = None
        if self._rooms:
            if self._log.secured == secured:
                self._committer.begin()
            self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)
