"""A link: one live session with one broker, through which readings go out and acknowledgements come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.formats import Format
from gateway.mqtt import Address, Connection, ConnectionLost, Message, Options, connect, in_words
from gateway.outbox import Feed
from gateway.reading import Reading

BATCH = 500
"""Readings rendered and written at once."""
HISTORICAL = 5.0
"""Seconds after which a reading that is only now sent is called historical."""
ANNOUNCEMENT = 1 << 61
"""Tokens from here on are not readings."""
NEVER = {0x90: "rejected", 0x95: "too-big", 0x99: "rejected"}
"""Refusals that concern one message, for ever: topic name invalid, packet too large, payload format invalid."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the readings of an uplink are published."""

    topic: Callable[[str], str]  # stream -> topic
    format: Format
    qos: int


class Link:
    """Sends only while `active`; hears acknowledgements until it is closed or lost."""

    def __init__(
        self, index: int, address: Address, route: Route, feed: Feed, on_proven: Callable[[int], None]
    ) -> None:
        self.index = index
        self.address = address
        self.active = False
        self.gone = asyncio.Event()
        self.why = ""
        self.connection: Connection
        self._route = route
        self._feed = feed
        self._on_proven = on_proven
        self._opened = False
        self._bounded = False  # the broker has said how large a packet may be
        self._proven = False
        self._pumping = False
        self._topics: dict[str, bytes] = {}
        self._announcements: dict[str, bytes] = {}
        self._announced = 0  # tokens given out beyond ANNOUNCEMENT
        self._announcing = 0  # of these, not yet acknowledged

    async def open(self, options: Options) -> None:
        """Connect. Raises ConnectError."""
        self.connection = await connect(self.address, options, self)
        self._opened = True
        self._bounded = self.connection.limits.maximum_packet_size is not None

    def announce(self, messages: Mapping[str, bytes]) -> None:
        """Publish retained messages, topic -> payload, before any further reading."""
        self._announcements.update(messages)
        self.pump()

    def pump(self) -> None:
        """Send what there is, as far as the window reaches."""
        if not self.active or self._pumping:
            return
        connection, feed, qos = self.connection, self._feed, self._route.qos
        self._pumping = True
        try:
            if self._announcements:
                self._send_announcements()
            while (room := connection.room) > 0 and not self._announcements:
                limit = room if room < BATCH else BATCH
                readings = feed.take(limit)
                if readings:
                    connection.publish(self._render(readings), qos)
                if len(readings) < limit:
                    return
        finally:
            self._pumping = False

    async def leave(self, farewell: Mapping[str, bytes], timeout: float) -> None:
        """Send nothing more, wait for what is in flight, say `farewell`, disconnect: `timeout` seconds for each."""
        self.active = False
        if not self.gone.is_set() and await self.connection.drained(timeout):
            self._announcements = dict(farewell)
            self._send_announcements()
            await self.connection.drained(timeout)
        if not self.gone.is_set():
            self._end("left")
        await self.connection.close(timeout)

    def abandon(self, why: str) -> None:
        """Give the link up at once."""
        if not self.gone.is_set():
            self._end(why)
            self.connection.abort()

    # ---- what the connection tells

    def acknowledged(self, tokens: list[int]) -> None:
        """The broker has taken these over."""
        if self._announcing:
            readings = [token for token in tokens if token < ANNOUNCEMENT]
            self._announcing -= len(tokens) - len(readings)
        else:
            readings = tokens
        if readings:
            self._feed.acknowledged(readings)
        if not self._proven and (readings if self._route.qos else len(readings) < len(tokens)):
            self._proven = True
            self._on_proven(self.index)
        self.pump()

    def refused(self, token: int, reason: int) -> None:
        """The broker does not want this one."""
        if token >= ANNOUNCEMENT:
            self._announcing -= 1
        elif reason in NEVER:
            self._feed.rejected([token], NEVER[reason])
        else:
            # It concerns all of them (not authorised, quota, out of order): keep the readings, try another broker.
            # Not at once: what else came with this one has to be heard first.
            self._feed.left([token])
            self.active = False
            asyncio.get_running_loop().call_soon(self.abandon, f"publish refused: {in_words(reason)}")
        self.pump()

    def writable(self) -> None:
        """The broker reads again."""
        self.pump()

    def received(self, message: Message) -> None:
        """Nothing is subscribed to: ignore what a broker sends all the same."""

    def lost(self, error: ConnectionLost) -> None:
        """The link is gone."""
        if not self.gone.is_set():
            self._end(str(error))

    # ----

    def _end(self, why: str) -> None:
        self.active = False
        self.why = why
        self._return_in_flight()
        self.gone.set()

    def _return_in_flight(self) -> None:
        # It may be lost before `open` has returned, and then nothing is in flight.
        if self._opened:
            self._feed.left([token for token in self.connection.in_flight if token < ANNOUNCEMENT])

    def _send_announcements(self) -> None:
        retain = self.connection.limits.retain_available
        while self._announcements and self.connection.room > 0:
            topic = next(iter(self._announcements))
            payload = self._announcements.pop(topic)
            self._announced += 1
            self._announcing += 1
            self.connection.publish([(topic.encode(), payload, ANNOUNCEMENT + self._announced)], qos=1, retain=retain)

    def _render(self, readings: list[Reading]) -> list[tuple[bytes, bytes, int]]:
        render, topics = self._route.format, self._topics
        batch = []
        for reading, (ts, historical) in zip(readings, self._feed.moments(readings, HISTORICAL), strict=True):
            topic = topics.get(reading.stream)
            if topic is None:
                topic = topics[reading.stream] = self._route.topic(reading.stream).encode()
            batch.append((topic, render(reading, ts, historical), reading.id))
        if self._bounded:
            return self._fitting(batch)
        return batch

    def _fitting(self, batch: list[tuple[bytes, bytes, int]]) -> list[tuple[bytes, bytes, int]]:
        fits = self.connection.fits
        too_big = [token for topic, payload, token in batch if not fits(topic, payload)]
        if not too_big:
            return batch
        self._feed.rejected(too_big, "too-big")
        return [entry for entry in batch if fits(entry[0], entry[1])]
