"""A keeper without a card: nothing is written, and what is too old is given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import ClassVar

from gateway.outbox.bounds import Bounds
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.shelf import Bad, Page
from gateway.outbox.times import Times

AT_ONCE = 1000
"""Readings that are looked at, at once, for their age."""


class Memory:
    """See `Keeper`."""

    commits = 0
    unwritten: ClassVar[Mapping[str, int]] = {}  # nobody has expected that it would be written
    fault = None  # there is no card that could fail

    def __init__(self, log: Log, times: Times, bounds: Bounds) -> None:
        self._log = log
        self._times = times
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def used(self) -> int:
        """How many bytes are in memory."""
        return self._log.weight

    def schedule(self) -> None:
        """Wake up when the oldest that waits is too old."""
        if self._bounds.max_age is None or self._timer is not None or self._closed:
            return
        followers = self._log.followers.values()
        if idle := [found[0].boot for follower in followers if (found := follower.idle(self._log.tail, 1))]:
            due = min(idle) + self._bounds.max_age
            self._timer = self._loop.call_later(max(0.0, due - self._times.now()) + 0.001, self._on_timer)

    def begin(self) -> None:
        """There is nowhere to write to."""

    def secure(self, then: Callable[[], None]) -> None:
        """Call `then`: it is as safe as it will ever be."""
        then()

    async def stored(self, one: int) -> None:
        """Return at once: it is as safe as it will ever be."""

    async def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[Bad]]:
        """Return nothing: all there is is in memory."""
        return Page(start, upto, []), []

    async def ledger(self) -> list[Loss]:
        """Return the ledger of this run."""
        return list(self._log.ledger.losses)

    async def quarantined(self) -> list[Quarantined]:
        """Return what is set aside."""
        return list(self._log.quarantine.entries)

    async def flush(self) -> None:
        """There is nowhere to write to."""

    async def alive(self) -> None:
        """Return: there is no thread."""

    async def close(self) -> None:
        """Do nothing further."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _on_timer(self) -> None:
        self._timer = None
        assert self._bounds.max_age is not None  # noqa: S101 - otherwise there is no timer
        limit = self._times.now() - self._bounds.max_age
        for follower in self._log.followers.values():
            while old := [one for one in follower.idle(self._log.tail, AT_ONCE) if one.boot < limit]:
                self._bounds.give_up(old, "too-old")
        self._bounds.tell()
        self.schedule()
