"""How what the outbox holds becomes messages: readings by topic template and format, publications as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol, cast

from gateway.formats import Format
from gateway.formats.packing import Packing
from gateway.mqtt import Properties
from gateway.outbox import Feed
from gateway.outbox.times import Moment
from gateway.reading import Publication, Reading
from gateway.uplink.bundles import Bundle, Entry

HISTORICAL = 5.0
"""Seconds after which a reading that is only now sent is called historical."""
BACKLOG = 1.0
"""The same, of a reading that is sent beside live ones, after them."""

_ID = attrgetter("id")


class Batch(NamedTuple):
    """Messages that have all but topic and payload in common: (topic in UTF-8, payload, token) each."""

    messages: list[tuple[bytes, bytes, int]]
    qos: int
    retain: bool = False
    properties: Properties | None = None


class Route(Protocol):
    """What turns entries of the outbox into messages."""

    def batches(self, entries: Sequence[Entry], feed: Feed) -> list[Batch]:
        """Return the messages of these entries, in order; the token of each is its entry's id."""


@dataclass(slots=True)
class Readings:
    """Every reading in one format, at one QoS, to the topic of its stream; bundles, and all else, as `packing` says."""

    topic: Callable[[str], str]  # stream -> topic
    format: Format
    qos: int
    packing: Packing | None = None
    _topics: dict[str, bytes] = field(default_factory=dict)

    def batches(self, entries: Sequence[Entry], feed: Feed) -> list[Batch]:
        """Render. See `Route.batches`."""
        if self.packing is not None:
            content = cast("Properties", self.packing.content)
            packed = [self._packed(entry, feed, self.packing) for entry in entries]
            return [Batch(packed, self.qos, properties=content)]
        render, topics = self.format, self._topics
        readings = cast("Sequence[Reading]", entries)  # there are bundles only where there is a packing
        messages = []
        for reading, (ts, historical, doubt) in zip(readings, _moments(readings, feed), strict=True):
            topic = topics.get(reading.stream)
            if topic is None:
                topic = topics[reading.stream] = self.topic(reading.stream).encode()
            messages.append((topic, render(reading, ts, historical, doubt), reading.id))
        return [Batch(messages, self.qos)]

    def _packed(self, entry: Entry, feed: Feed, packing: Packing) -> tuple[bytes, bytes, int]:
        readings = entry.readings if isinstance(entry, Bundle) else [entry]
        payloads = [
            self.format(reading, *moment) for reading, moment in zip(readings, _moments(readings, feed), strict=True)
        ]
        return self.topic(entry.stream).encode(), packing.pack(payloads), entry.id


class Publications:
    """Messages that a program has published, which bring everything with them.

    One with a message expiry interval has aged while it waited: what is left of the interval is sent with it, and when
    nothing is left, the message goes into the ledger (MQTT 5, section 3.3.2.3.3, asks the same of a broker).
    """

    def batches(self, entries: Sequence[Entry], feed: Feed) -> list[Batch]:
        """Put what has QoS, retain and properties in common together. See `Route.batches`."""
        batches: list[Batch] = []
        kind: tuple[object, ...] | None = None
        messages: list[tuple[bytes, bytes, int]] = []
        for entry in cast("Sequence[Reading]", entries):  # never bundled
            publication = entry.values
            assert isinstance(publication, Publication)  # noqa: S101 - a client's outbox holds nothing else
            topic, payload, qos, retain, properties = publication
            if properties is not None and "message_expiry_interval" in properties:
                left = properties["message_expiry_interval"] - int(feed.age(entry))
                if left <= 0:
                    feed.left([entry.id], sent=False)
                    feed.rejected([entry.id], "too-old")
                    continue
                properties = {**properties, "message_expiry_interval": left}
            if (qos, retain, properties) != kind:
                kind = (qos, retain, properties)
                messages = []
                batches.append(Batch(messages, qos, retain, cast("Properties | None", properties)))
            messages.append((topic.encode(), payload, entry.id))
        return batches


def _moments(readings: Sequence[Reading], feed: Feed) -> Iterable[Moment]:
    """Return when each was measured, and whether that was long ago: sooner so for what comes from a backlog."""
    frontier = feed.frontier
    if readings[0].id >= frontier and readings[-1].id >= frontier:  # what is urgent is the first, a backlog the last
        return feed.moments(readings, HISTORICAL)
    if max(map(_ID, readings)) < frontier:
        return feed.moments(readings, BACKLOG)
    return _by_age(readings, feed, frontier)


def _by_age(readings: Sequence[Reading], feed: Feed, frontier: int) -> Iterator[Moment]:
    for live, some in groupby(readings, key=lambda reading: reading.id >= frontier):
        yield from feed.moments(list(some), HISTORICAL if live else BACKLOG)
