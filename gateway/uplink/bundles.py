"""Bundles: readings of one stream that go as one message, and what each message in flight stands for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from gateway.outbox import Feed
from gateway.reading import LEDGER, Reading

LUMP = 2000
"""Readings that are taken at once, at most."""


class Bundle(NamedTuple):
    """Readings of one stream, in order; known by the id of the first."""

    id: int
    stream: str
    readings: list[Reading]


Entry: TypeAlias = Reading | Bundle
"""What becomes one message. Entries of the ledger stay as they are."""


def bundled(readings: Iterable[Reading], size: int, alone: Iterable[int] = ()) -> list[Entry]:
    """Put up to `size` readings of each stream together, in order; those in `alone` are not put together with any."""
    entries: list[Entry] = []
    growing: dict[str, Bundle] = {}
    for reading in readings:
        if reading.stream == LEDGER:
            entries.append(reading)
            continue
        bundle = growing.get(reading.stream)
        if bundle is not None and len(bundle.readings) < size and reading.id not in alone:
            bundle.readings.append(reading)
            continue
        bundle = Bundle(reading.id, reading.stream, [reading])
        entries.append(bundle)
        if reading.id in alone:
            growing.pop(reading.stream, None)
        else:
            growing[reading.stream] = bundle
    return entries


class Bundles:
    """What one link has taken from its feed: bundles that wait to be sent, and bundles that were sent.

    A bundle is known by its first id, which is the token of its message. `window` is how many readings may be taken
    and not yet at their end. Several streams are interleaved, so readings are taken in lumps, all of whose bundles are
    sent before the next lump of their kind, live or backlog, is taken.
    """

    def __init__(self, feed: Feed, size: int, window: int) -> None:
        self.count = 0
        """Readings that were taken and have not met their end."""
        self.singly = False
        """Whether each reading goes as a bundle of its own."""
        self._feed = feed
        self._size = size
        self._window = window
        self._live: deque[Entry] = deque()
        self._backlog: deque[Entry] = deque()
        self._sent: dict[int, Entry] = {}
        self._alone: set[int] = set()

    def next(self, upto: int | None, backlog: int | None) -> Entry | None:
        """Return what to send next, if there is anything, of ids below `upto`.

        Up to `backlog` readings of a backlog may be taken; None: there is no difference.
        """
        if not self._live:
            free = self._window - self.count
            if backlog is not None or 2 * free >= self._window:  # in one lane, lumps have to be large as well
                self._live.extend(self._taken(free, upto, 0 if backlog is not None else None))
            if not self._live and not self._backlog and backlog:
                self._backlog.extend(self._taken(min(free, backlog), upto, backlog))
        waiting = self._live or self._backlog
        if not waiting:
            return None
        entry = waiting.popleft()
        self._sent[entry.id] = entry
        return entry

    def split(self, token: int) -> bool:
        """Have a bundle that is too large sent as its two halves, before anything else; False if it is one reading."""
        entry = self._sent[token]
        if not isinstance(entry, Bundle) or len(entry.readings) < 2:
            return False
        del self._sent[token]
        middle = len(entry.readings) // 2
        for half in (entry.readings[middle:], entry.readings[:middle]):
            self._live.appendleft(Bundle(half[0].id, entry.stream, half))
        return True

    def ended(self, tokens: Iterable[int]) -> list[int]:
        """Return the ids that these messages stand for, and forget them."""
        ids = [one for token in tokens if token in self._sent for one in _ids(self._sent.pop(token))]
        self.count -= len(ids)
        return ids

    def isolate(self, token: int) -> list[int]:
        """Have the readings of this message sent alone the next time, if they are several; return and forget them.

        None, and nothing is forgotten, if it is one already.
        """
        ids = self.of((token,))
        if len(ids) < 2:
            return []
        self._alone.update(ids)
        return self.ended((token,))

    def of(self, tokens: Iterable[int]) -> list[int]:
        """Return the ids that these messages stand for."""
        return [one for token in tokens if token in self._sent for one in _ids(self._sent[token])]

    def clear(self) -> list[int]:
        """Return the ids of what waits to be sent, and forget them."""
        ids = [one for waiting in (self._live, self._backlog) for entry in waiting for one in _ids(entry)]
        self._live.clear()
        self._backlog.clear()
        self.count -= len(ids)
        return ids

    def _taken(self, limit: int, upto: int | None, backlog: int | None) -> Sequence[Entry]:
        if limit <= 0:
            return ()
        readings = self._feed.take(min(limit, LUMP), upto, backlog)
        self.count += len(readings)
        return bundled(readings, 1 if self.singly else self._size, self._alone)


def _ids(entry: Entry) -> list[int]:
    return [reading.id for reading in entry.readings] if isinstance(entry, Bundle) else [entry.id]
