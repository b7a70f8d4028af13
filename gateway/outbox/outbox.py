"""The outbox: put readings or publications in, and follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import structlog

from gateway.clock import Clock
from gateway.outbox import ends
from gateway.outbox.assembly import Assembly
from gateway.outbox.bounds import POLICIES, Bounds
from gateway.outbox.brake import ROOM, Brake
from gateway.outbox.card.store import Store
from gateway.outbox.card.wear import Wear
from gateway.outbox.errors import OutboxError
from gateway.outbox.feed import Feed
from gateway.outbox.keeper import Keeper
from gateway.outbox.ledger import Loss, nobody
from gateway.outbox.log import Log
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.timekeeper import Timekeeper
from gateway.outbox.times import Times
from gateway.outbox.trim import forget, trim
from gateway.reading import A_READING, Publication, Value, weigh

CALM = 0.001
"""Seconds without a reading after which the next one is sent at once; in between they go together."""


class Outbox:
    """The durable queue between devices, or a program, and uplinks.

    `path=None` keeps it in memory only. `commit_interval` is the longest, in seconds, that a reading exists only in
    memory; 0 means on the card before it is sent. `max_count` bounds how many wait for one uplink, `max_size` the bytes
    on the card or in memory, `memory_limit` those in memory while the card fails, `max_age` the seconds that one may
    wait. `when_full` says what happens then: the oldest that no link has taken go into the ledger, or the newest, or
    nothing more is taken in (OutboxFull). `streams` are those that are known to come: also what a crash costs before
    the card has heard of one is in the ledger. Readings of the streams in `high` are sent first, are on the card at
    once, and are kept the longest. `devices` names, for an uplink that does not want all, whose readings it wants. Use
    as `async with`; opening raises OutboxError.
    """

    def __init__(
        self,
        path: Path | None,
        uplinks: Sequence[str],
        *,
        commit_interval: float = 1.0,
        max_count: int | None = None,
        max_size: int = 10**9,
        keep_free: int = 0,
        memory_limit: int = 64 * 10**6,
        max_age: float | None = None,
        when_full: str = "drop-oldest",
        streams: Collection[str] = (),
        high: Collection[str] = (),
        devices: Mapping[str, Collection[str]] | None = None,
        clock: Clock | None = None,
        hold_unsynced: float = 0.0,
        logger: Any = None,
    ) -> None:
        if when_full not in POLICIES:
            raise ValueError(f"when_full is {when_full!r}, and must be one of {', '.join(POLICIES)}")
        self._uplinks = list(uplinks)
        self._high = frozenset(high)
        self._when_full = when_full
        self._clock = clock or Clock()
        self._hold = hold_unsynced
        self._timekeeper: Timekeeper | None = None
        self._logger = logger or structlog.get_logger()
        self._store: Store | None = None
        if path is not None:
            bounds = {"max_size": max_size, "keep_free": keep_free}
            self._store = Store(path, **bounds, uplinks=self._uplinks, streams=list(streams), devices=devices)
        self._assembly = Assembly(
            self._store,
            self._uplinks,
            commit_interval,
            max_count,
            max_size,
            memory_limit,
            max_age,
            when_full,
            self._high,
            devices,
            self._clock,
            self._logger,
        )
        self._log: Log
        self._times: Times
        self._bounds: Bounds
        self._keeper: Keeper
        self.found: list[Loss] = []
        """What opening it has entered into the ledger: after an unclean end, or where the file went back in time."""
        self._feeds: dict[str, Feed] = {}
        self._forgetting: set[str] = set()  # uplinks of which this is going on
        self._waking = False
        self._woke = 0.0  # seconds since boot
        self._brake: Brake

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._boot = self._clock.boot
        self._began = self._boot()
        parts = await self._assembly.open(self._on_commit, self._on_news)
        self._log, self._times, self._bounds, self._keeper = parts.log, parts.times, parts.bounds, parts.keeper
        self.found = parts.found
        self._brake = Brake(self._log, self._keeper)
        self._feed_all()
        if self._clock.evidence is not None:
            self._timekeeper = Timekeeper(self._times, self._clock.evidence, self._hold, self._on_clock, self._logger)
            self._timekeeper.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timekeeper is not None:
            self._timekeeper.close()
        try:
            await self._keeper.flush()
        finally:
            self._brake.close()
            for feed in self._feeds.values():
                await feed.close()
            await self._keeper.close()

    def put(
        self, stream: str, values: dict[str, Value], time: float | None = None, age: float = 0.0
    ) -> Awaitable[None] | None:
        """Take a reading in; `time` is the device's own, in UTC seconds. Raises OutboxFull if `when_full` says so.

        `age` is how many seconds ago it was measured.

        Returns None, or something to wait for when this stream has too much in memory.
        """
        now = self._boot()
        fits = not self._bounds.tight or self._bounds.admit(A_READING, high=stream in self._high)
        one = self._log.put(stream, values, now - age, time)
        if not fits:
            self._bounds.refuse(one)
        if not self._waking:
            if now - self._woke > CALM:
                self._woke = now
                self._wake()
            else:
                self._waking = True
                self._loop.call_soon(self._wake)
        if self._log.pending[stream] >= ROOM and self._log.has_card and self._keeper.fault is None:
            return self._brake.hold(stream)
        return None

    def accept(self, publication: Publication) -> int:
        """Take a publication in and return its id; the uplinks hear of it in the next turn of the loop.

        Its strings must be valid UTF-8, its properties JSON or bytes. Raises OutboxFull if `when_full` says so.
        """
        fits = not self._bounds.tight or self._bounds.admit(len(publication.topic) + len(publication.payload))
        one = self._log.put("", publication, self._boot(), None)
        if not fits:
            self._bounds.refuse(one)
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)
        return one

    def accept_many(self, publications: Sequence[Publication]) -> range:
        """Take publications in, and return their ids. Raises OutboxFull, and then has taken none."""
        if self._when_full == "reject":
            self._bounds.admit(sum(map(weigh, publications)), len(publications))
        first = self._log.next_id
        for publication in publications:
            self.accept(publication)
        return range(first, self._log.next_id)

    def left(self) -> tuple[int, int]:
        """Return how many publications, and how many bytes of topics and payloads, `accept` will take for sure."""
        return self._bounds.left()

    async def stored(self, one: int) -> None:
        """Return when this id would survive a power cut, or all uplinks have it. The card is written at once for it."""
        await self._keeper.stored(one)

    def follow(self, name: str) -> Feed:
        """Return the readings that the uplink `name` has to deliver."""
        return self._feeds[name]

    async def flush(self) -> None:
        """Write all that is not on the card and not delivered, now."""
        await self._keeper.flush()

    async def alive(self) -> None:
        """Return when the writer thread has got through all that it had to do."""
        await self._keeper.alive()

    async def ledger(self) -> list[Loss]:
        """Return what was given up, oldest first."""
        return await self._keeper.ledger()

    def on_loss(self, call: Callable[[Loss], None] | None) -> None:
        """Have `call` called with each loss as it is entered into the ledger; it must not use the outbox at once."""
        self._log.ledger.on_enter = call or nobody

    async def quarantined(self) -> list[Quarantined]:
        """Return what was set aside, oldest first."""
        return await self._keeper.quarantined()

    async def retry(self, ids: Collection[int] | None = None) -> int:
        """Put what was set aside, all of it or these ids, back as the newest, with new ids; return how many that is.

        Only the uplink that had set it aside sends it again.
        """
        entries = await self._aside(ids)
        ends.retry(self._log, entries, self._boot(), self._times.wall)
        self._on_progress()
        self._wake()
        return len(entries)

    async def discard(self, ids: Collection[int] | None = None) -> int:
        """Put what was set aside, all of it or these ids, into the ledger; return how many that is."""
        entries = await self._aside(ids)
        ends.discard(self._log, entries)
        self._on_progress()
        return len(entries)

    async def trim(self, before: float, uplink: str | None = None) -> int:
        """Put what waits and was measured before `before`, in UTC seconds, into the ledger; return how many that is.

        For one uplink, or for all. What is with a broker may arrive, and is kept. Raises ValueError for an uplink that
        is not there, and OSError if the card cannot be read.
        """
        if uplink is not None and uplink not in self._log.followers:
            raise ValueError(f'there is no uplink "{uplink}", but {", ".join(self._log.followers)}')
        followers = [one for one in self._log.followers.values() if uplink in (None, one.name)]
        self._check_known()
        counts = [await trim(self._log, self._keeper, self._times, one, before) for one in followers]
        self._on_progress()
        return sum(counts)

    def expect(self, streams: Collection[str], high: Collection[str]) -> None:
        """Take note, while it is open, of which streams are known to come, and of which of all streams go first."""
        self._high = frozenset(high)
        self._log.expect(streams, high)
        self._keeper.schedule()

    def join(self, name: str, devices: Collection[str] | None = None) -> Feed:
        """Have an uplink of this name while it is open, and return what it has to deliver.

        One that the outbox knows already goes on where it was; another gets what is put in from now on. Raises
        ValueError for one that it knows with other `devices`, or is about to forget.
        """
        if name not in self._uplinks:
            known = self._log.followers.get(name)
            wanted = None if devices is None else frozenset(devices)
            if name in self._forgetting or (known is not None and known.devices != wanted):
                raise ValueError(f'the outbox cannot take the uplink "{name}" back while it is open')
            self._uplinks.append(name)
            self._log.join(name, devices)
            self._feed_all()
            self._keeper.schedule()
        return self._feeds[name]

    def leave(self, name: str) -> int:
        """Have no uplink of this name, as after a start without it; return how many readings are kept for it."""
        self._uplinks.remove(name)
        return self.strangers[name]

    @property
    def strangers(self) -> dict[str, int]:
        """For each uplink that the outbox knows, and the config does not, how many readings are kept for it."""
        followers = self._log.followers
        return {name: one.account.waiting for name, one in followers.items() if name not in self._uplinks}

    async def forget(self, name: str) -> int:
        """Let go of an uplink that is not in the config: what waits for it goes into the ledger; return how many.

        It is gone for good with the next transaction. Raises ValueError for one that is in the config, or unknown, and
        OSError if the card cannot be read.
        """
        if name in self._uplinks:
            raise ValueError(f'the uplink "{name}" is in the config: take it out there, and restart the service, first')
        if name not in self._log.followers:
            raise ValueError(f'the outbox knows no uplink "{name}"')
        self._check_known()
        self._forgetting.add(name)
        try:
            count = await forget(self._log, self._keeper, self._times, self._log.followers[name])
        finally:
            self._forgetting.discard(name)
        if name in self._feeds:
            await self._feeds.pop(name).close()
        self._on_progress()
        return count

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
        return self._keeper.commits

    @property
    def used(self) -> int:
        """How many bytes the outbox takes: on the card, as of the last transaction, or in memory if there is none."""
        return self._keeper.used

    @property
    def wear(self) -> Wear | None:
        """What this run has written to the card; None if there is none."""
        return None if self._store is None else self._store.meter.wear(self._boot() - self._began)

    @property
    def fault(self) -> str | None:
        """Why the card takes nothing now, in the ledger's words; None if it does, or if there is none."""
        return self._keeper.fault

    @property
    def unwritten(self) -> Mapping[str, int]:
        """How many readings of each stream are lost, now that it is closed, because the card took nothing."""
        return self._keeper.unwritten

    @property
    def clock(self) -> tuple[str, float | None]:
        """What is known of the clock (set, unset, unknown), and how many seconds uplinks may still wait for it."""
        return self._times.sync.value, None if self._timekeeper is None else self._timekeeper.held

    @property
    def hidden(self) -> bool:
        """Whether it is not yet known of all that earlier runs have left what waits."""
        return bool(self._log.hidden)

    def _check_known(self) -> None:
        if self.hidden:
            raise OutboxError("what the outbox holds is still being looked through: try again in a while")

    async def _aside(self, ids: Collection[int] | None) -> list[Quarantined]:
        entries = await self._keeper.quarantined()
        return [entry for entry in entries if ids is None or entry.reading.id in ids]

    def _wake(self) -> None:
        """Tell the uplinks, or the card first, of what was put in since the last turn of the loop."""
        self._waking = False
        for follower in self._log.followers.values():
            follower.tell()
            if not self._log.durable_first:
                follower.on_ready()
        if self._log.hurried:
            self._log.hurried = False
            self._keeper.secure(_nothing)
        else:
            self._keeper.schedule()

    def _feed_all(self) -> None:
        for name, follower in self._log.followers.items():
            if name not in self._feeds:
                self._feeds[name] = Feed(
                    follower, self._log, self._times, self._keeper, on_progress=self._on_progress, logger=self._logger
                )

    def _on_news(self) -> None:
        """More is known of what earlier runs have left."""
        self._feed_all()
        for follower in self._log.followers.values():
            follower.on_ready()
        self._on_progress()

    def _on_commit(self) -> None:
        if self._brake.holds:
            self._brake.loosen()
        if self._log.durable_first:
            for follower in self._log.followers.values():
                follower.on_ready()

    def _on_progress(self) -> None:
        """An uplink has dealt with readings: there may be room, and something to write."""
        if self._brake.holds:
            self._brake.loosen()
        if self._log.restless or not self._log.has_card:
            self._keeper.schedule()

    def _on_clock(self) -> None:
        """The clock is known better now: uplinks may have waited for that, and the card has to know."""
        self._log.noted = True
        self._keeper.schedule()
        for follower in self._log.followers.values():
            follower.on_ready()


def _nothing() -> None:
    """Be told that something is on the card now."""
