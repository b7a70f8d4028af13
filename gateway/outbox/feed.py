"""A feed: an uplink's view of the outbox."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from gateway.outbox.committer import Committer
from gateway.outbox.log import Account, Follower, Log, Page
from gateway.outbox.store import Store
from gateway.outbox.times import Times
from gateway.outbox.writer import Writer
from gateway.reading import Reading

PAGE = 2000
"""Readings read back at once."""


class Feed:
    """What one uplink has to deliver, oldest first. Three fates for what was taken: acknowledged, left, rejected."""

    def __init__(
        self,
        follower: Follower,
        log: Log,
        store: Store,
        writer: Writer,
        times: Times,
        committer: Committer,
        *,
        on_progress: Callable[[], None],
        logger: Any,
    ) -> None:
        self.account: Account = follower.account
        self.moments = times.moments
        self._times = times
        self._follower = follower
        self._log = log
        self._store = store
        self._writer = writer
        self._committer = committer
        self._on_progress = on_progress
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    def on_ready(self, call: Callable[[], None]) -> None:
        """Have `call` called when there may be something to take: once for many readings, never from within `take`."""
        self._follower.on_ready = call

    def take(self, limit: int) -> list[Reading]:
        """Return up to `limit` readings to send now; fewer, or none, when the rest has to come from the card first."""
        follower = self._follower
        readings = follower.take(limit)
        if follower.behind and (start := follower.wanted()) is not None:
            follower.loading = True
            self._begin(self._load(start))
        return readings

    def acknowledged(self, ids: list[int]) -> None:
        """A broker has taken these over."""
        self._log.acknowledge(self._follower, ids)
        self._on_progress()

    def left(self, ids: Iterable[int]) -> None:
        """The link was lost: send these again."""
        self._follower.left(ids)

    def rejected(self, ids: Sequence[int], reason: str) -> None:
        """No broker of this uplink will ever take these: into the ledger with them."""
        self._begin(self._reject(ids, reason))

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

    async def _load(self, start: int) -> None:
        """Read the next page, and tell the uplink."""
        upto = self._log.tail.start  # all below is on the card
        try:
            page, damaged = await self._writer.submit(partial(self._store.read, start, upto, PAGE))
        except sqlite3.Error as error:
            await asyncio.sleep(self._committer.trouble("read", error))
            page, damaged = Page(start, start, []), []
        finally:
            self._follower.loading = False
        if damaged:
            lost = sum(loss.count for loss in damaged)
            self._logger.error("a part of the outbox is damaged", blocks=len(damaged), readings=lost)
            self._log.damaged(self._follower, damaged)
        if page.end > page.start:
            self._follower.pages.append(page)
        self._follower.on_ready()

    async def _reject(self, ids: Sequence[int], reason: str) -> None:
        readings: list[Reading] = []
        for one in ids:
            found = self._log.tail.slice(one, one + 1)
            if not found:
                page, _ = await self._writer.submit(partial(self._store.read, one, one + 1, 1))
                found = [reading for reading in page.readings if reading.id == one]
            readings += found
        count = self._log.lose(self._follower, readings, reason, self._times.wall)
        self._logger.warning(f"{self._follower.name}: readings in the ledger", reason=reason, readings=count)
        self._on_progress()
