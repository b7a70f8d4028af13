"""The assembly: the parts of an outbox, put together when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.clock import Clock
from gateway.outbox.boots import Epoch
from gateway.outbox.bounds import Bounds
from gateway.outbox.card.room import Written
from gateway.outbox.card.store import Store
from gateway.outbox.card.writer import Writer
from gateway.outbox.commit import State
from gateway.outbox.committer import Committer
from gateway.outbox.keeper import Keeper
from gateway.outbox.ledger import Loss
from gateway.outbox.log import Log
from gateway.outbox.memory import Memory
from gateway.outbox.times import Times
from gateway.timesync import RELEASED

LITTLE = 500_000
"""Bytes of room in the outbox that are worth a warning at start."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an open outbox is made of, and what opening it has entered into the ledger."""

    log: Log
    times: Times
    bounds: Bounds
    keeper: Keeper
    found: list[Loss]


@dataclass(frozen=True, slots=True)
class Assembly:
    """Knows what is the same each time. See `Outbox`; without a store, all is kept in memory."""

    store: Store | None
    uplinks: Sequence[str]
    interval: float  # commit_interval
    max_count: int | None
    max_size: int
    memory_limit: int
    max_age: float | None
    when_full: str
    high: Collection[str]
    devices: Mapping[str, Collection[str]] | None
    clock: Clock
    logger: Any

    async def open(self, on_change: Callable[[], None], on_news: Callable[[], None]) -> Parts:
        """Open the file, or do without one, and begin a run. See `Committer` for what is called. Raises OutboxError."""
        boot, offset = self.clock.read()
        if self.store is None:
            state, epochs = State(1), [Epoch(1, self.clock.boot_id, offset, since=RELEASED)]
            log, times, bounds = self._build(state, epochs, offset)
            return Parts(log, times, bounds, Memory(log, times, bounds), [])
        writer = Writer()
        writer.start()
        try:
            opening = partial(self.store.open, self.clock.boot_id, offset, self.interval, boot)
            state, epochs = await writer.submit(opening)
            room = await writer.submit(self.store.written)
        except BaseException:
            writer.submit(self.store.close)  # also what an opening that was cancelled has opened by then
            await writer.stop(1.0)
            raise
        log, times, bounds = self._build(state, epochs, offset)
        self._say(state, room)
        committer = Committer(
            log,
            self.store,
            writer,
            times,
            bounds,
            interval=self.interval,
            on_change=on_change,
            on_news=on_news,
            logger=self.logger,
        )
        committer.take_note(room)
        return Parts(log, times, bounds, committer, state.losses)

    def _build(self, state: State, epochs: Sequence[Epoch], offset: float) -> tuple[Log, Times, Bounds]:
        has_card = self.store is not None
        log = Log(
            state,
            self.uplinks,
            durable_first=has_card and self.interval == 0,
            has_card=has_card,
            high=self.high,
            devices=self.devices,
        )
        times = Times(self.clock, epochs, offset)
        bounds = Bounds(
            log,
            times,
            max_count=self.max_count,
            max_size=self.max_size,
            max_age=self.max_age,
            when_full=self.when_full,
            memory_limit=self.memory_limit,
            logger=self.logger,
        )
        return log, times, bounds

    def _say(self, state: State, room: Written) -> None:
        for remark in state.remarks:
            self.logger.warning(remark)
        if room.limit - room.used < LITTLE:
            self.logger.warning(
                "the outbox has next to no room, and readings that cannot be sent will go into the ledger: "
                "make room on the card, or change keep_free or max_size in [outbox]",
                **{"free on the card": room.free, "the outbox may take": room.limit, "it takes": room.used},
            )
