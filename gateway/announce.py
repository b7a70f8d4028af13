"""The announcer: each loss becomes an entry of a stream of its own, and goes the way of a reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from gateway.formats import FORMATS
from gateway.outbox import Feed, Loss, Outbox
from gateway.reading import LEDGER, Doubt, Reading, Value
from gateway.uplink import Readings
from gateway.uplink.bundles import Entry
from gateway.uplink.observer import Nobody
from gateway.uplink.route import Batch

EVERY = 1.0
"""Seconds between two entries about one loss that goes on."""
PARTS = 10
"""Losses of one kind, with gaps between them, that are told apart when they come within that time."""
REMEMBERED = 1000
"""Losses of which it is known how far they have gone."""
WINDOW = "crash-window"
"""The reason that stands for what an unclean end has cost, and that tells of nothing else."""
AGAIN = 100
"""Losses of earlier runs that are told again after an unclean end."""
RUNS = 10
"""Runs back in which an entry that was lost since is remembered to have been lost."""

Kind = tuple[str, str, int, str, bool, bool]
"""What losses have in common that are told as one; the last: whether it is known how many they were, and only that."""
Key = tuple[Kind, int]
"""A loss from its beginning: its kind and its first seq."""


class Announcer:
    """Puts what the outbox enters into its ledger into the outbox as well, once a second while a loss goes on.

    What goes on is told from its beginning, so that an entry says all that the ones before it said. A loss of entries
    is not told: the next link is, instead, all that is known (`again`). Use as `async with`, inside the outbox.
    """

    def __init__(self, outbox: Outbox, every: float = EVERY) -> None:
        self.announced = 0
        """Entries of this run."""
        self._outbox = outbox
        self._every = every
        self._told: dict[Key, Loss] = {}
        self._newest: dict[Kind, Key] = {}
        self._waiting: dict[Kind, list[Loss]] = {}
        self._again: dict[Key, None] = {}  # of what was told
        self._unheard: set[str] = set()  # uplinks that have lost entries
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._outbox.on_loss(self._lost)
        self._begin(await self._outbox.ledger())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.flush()
        self._outbox.on_loss(None)
        if self._timer is not None:
            self._timer.cancel()

    def flush(self) -> None:
        """Announce what waits, now."""
        waiting, self._waiting = self._waiting, {}
        again, self._again = self._again, {}
        news = dict.fromkeys(self._remember(loss) for losses in waiting.values() for loss in losses)
        for key in {**again, **news}:
            if key in self._told:
                self._outbox.put(LEDGER, _values(self._told[key]))
                self.announced += 1

    def again(self, uplink: str) -> None:
        """Announce all that is known of an uplink's losses again, if entries about them were lost themselves."""
        if uplink in self._unheard:
            self._unheard.discard(uplink)
            self._repeat(key for key, loss in self._told.items() if loss.uplink == uplink)

    def _begin(self, ledger: Sequence[Loss]) -> None:
        """Take up what earlier runs have left; after an unclean end, nobody knows which of it was announced."""
        for loss in ledger[-REMEMBERED:]:
            if loss.stream != LEDGER:
                self._remember(loss)
            elif loss.epoch >= self._outbox.epoch - RUNS:
                self._unheard.add(loss.uplink)
        if self._outbox.found:
            self._repeat([key for key, loss in self._told.items() if loss.reason != WINDOW][-AGAIN:])
            self._repeat(self._newest[kind] for kind in map(_kind, self._outbox.found) if kind in self._newest)

    def _lost(self, loss: Loss) -> None:
        if loss.stream == LEDGER:
            self._unheard.add(loss.uplink)
            return
        parts = self._waiting.setdefault(_kind(loss), [])
        if parts and (_goes_on(parts[-1], loss) or len(parts) >= PARTS):
            parts[-1] = parts[-1].plus(loss)
        else:
            parts.append(loss)
        self._schedule()

    def _repeat(self, keys: Iterable[Key]) -> None:
        self._again.update(dict.fromkeys(keys))
        if self._again:
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is None:
            # Not at once: whoever enters a loss, or has a new link, is in the middle of something.
            self._timer = self._loop.call_later(0.0, self._on_timer)

    def _on_timer(self) -> None:
        busy = self._waiting or self._again
        self._timer = self._loop.call_later(self._every, self._on_timer) if busy else None
        self.flush()

    def _remember(self, loss: Loss) -> Key:
        """Add to what was told of a loss that goes on, or begin with a new one."""
        kind = _kind(loss)
        before = self._told.get(self._newest[kind]) if kind in self._newest else None
        if before is not None and _goes_on(before, loss):
            del self._told[self._newest[kind]]
            loss = before.plus(loss)
        elif len(self._told) >= REMEMBERED:
            oldest = next(iter(self._told))
            del self._told[oldest]
            if self._newest.get(oldest[0]) == oldest:
                del self._newest[oldest[0]]
        key = self._newest[kind] = (kind, loss.first_seq)
        self._told[key] = loss
        return key


class Again(Nobody):
    """An uplink's observer: a new link hears again what an older one may have missed."""

    def __init__(self, announcer: Announcer, uplink: str) -> None:
        self._announcer = announcer
        self._uplink = uplink

    def connected(self, broker: str, protocol: str, session_present: bool) -> None:
        """A link is active now."""
        self._announcer.again(self._uplink)


@dataclass(slots=True)
class WithLedger:
    """The route of an uplink's readings and, between them, of the ledger's entries: in JSON, at QoS 1 at least.

    An entry about a loss of this uplink also says of which topic: a receiver misses those readings there. The others
    are for information.
    """

    readings: Readings
    uplink: str
    ledger: str  # the topic

    def batches(self, entries: Sequence[Entry], feed: Feed) -> list[Batch]:
        """Render. See `Route.batches`."""
        if not any(entry.stream == LEDGER for entry in entries):
            return self.readings.batches(entries, feed)
        own = Readings(lambda _: self.ledger, self._render, max(1, self.readings.qos))
        return [
            batch
            for is_ledger, some in groupby(entries, key=lambda entry: entry.stream == LEDGER)
            for batch in (own if is_ledger else self.readings).batches(list(some), feed)
        ]

    def _render(self, entry: Reading, ts: int, historical: bool, doubt: Doubt | None) -> bytes:
        values = dict(entry.values)  # type: ignore[arg-type]  # of this stream: never a publication
        if values.get("uplink") == self.uplink:
            stream = str(values["stream"])
            values["topic"] = self.readings.topic("+" if stream == "?" else stream)
        return FORMATS["json"](entry._replace(values=values), ts, historical, doubt)


def _kind(loss: Loss) -> Kind:
    return (*loss.kind, loss.count > 0, loss.is_sparse)


def _goes_on(before: Loss, loss: Loss) -> bool:
    """Say whether one loss is the continuation of another of its kind; those that nobody can name are one."""
    return loss.first_seq == 0 or before.goes_on(loss)


def _values(loss: Loss) -> dict[str, Value]:
    return {
        "uplink": loss.uplink,
        "stream": loss.stream,
        "stream_epoch": loss.epoch,
        "first_seq": loss.first_seq,
        "last_seq": loss.last_seq,
        "first_time": round(loss.first_time * 1000),
        "last_time": round(loss.last_time * 1000),
        "count": loss.count,
        "reason": loss.reason,
    }
