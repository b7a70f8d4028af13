"""A link: one live session with one broker, through which messages go out and acknowledgements come back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from gateway.mqtt import Connection, ConnectionLost, Message, Options, certificate_notices, connect, in_words
from gateway.outbox import Feed
from gateway.reading import Publication
from gateway.uplink.broker import Broker
from gateway.uplink.confirming import Confirming
from gateway.uplink.manner import Manner
from gateway.uplink.observer import Observer
from gateway.uplink.outgoing import ANNOUNCEMENT, Outgoing
from gateway.uplink.route import Route
from gateway.uplink.suspicion import Suspicion

DAY = 86400.0
STEADY = 5.0
"""Seconds after which a link on which nothing is acknowledged counts as a good one."""
SAYINGS = 100
"""Messages that no outbox holds, such as the answers to commands, that may wait on a link."""


class Link:
    """Sends only while `active`; hears acknowledgements until it is closed or lost.

    `persistent`: the broker keeps the session, so that what is in flight goes on with its packet identifiers.
    """

    def __init__(
        self,
        index: int,
        broker: Broker,
        route: Route,
        feed: Feed,
        manner: Manner,
        *,
        persistent: bool,
        suspicion: Suspicion,
        observer: Observer,
        on_proven: Callable[[int], None],
        on_downgraded: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.index = index
        self.broker = broker
        self.active = False
        self.gone = asyncio.Event()
        self.why = ""
        self.error: ConnectionLost | None = None  # None as well when this side ended it
        self.since = 0.0  # loop time of the CONNACK
        self.connection: Connection
        self._route = route
        self._feed = feed
        self._manner = manner
        self._persistent = persistent
        self._suspicion = suspicion
        self._observer = observer
        self._on_proven = on_proven
        self._on_downgraded = on_downgraded
        self._say = say
        self._opened = False
        self._proven = False
        self._pumping = False
        self._outgoing: Outgoing
        self._confirming: Confirming
        self._written: set[int] = set()  # ids sent at QoS 0 before the link has proven itself: they prove nothing
        self._announcements: dict[str, Publication] = {}
        self._sayings: deque[Publication] = deque()
        self._share = max(1, broker.options.window // 4)  # of the window: the rest is for readings
        self._announced = 0  # tokens given out beyond ANNOUNCEMENT
        self._announcing = 0  # of these, not yet acknowledged
        self._steady: asyncio.TimerHandle | None = None
        self._daily: asyncio.TimerHandle | None = None

    async def open(self, options: Options, received: set[int] | None = None) -> None:
        """Connect. Raises ConnectError. `received`: identifiers of QoS 2 messages that the broker may send again."""
        self.connection = await connect(self.broker.address, options, self, received=received)
        self._opened = True
        self.since = asyncio.get_running_loop().time()
        self._confirming = Confirming(self._feed, lambda: self.connection.received_ids, self._confirm)
        self._outgoing = Outgoing(
            self.connection,
            self.broker,
            self._route,
            self._feed,
            self._manner,
            persistent=self._persistent,
            suspicion=self._suspicion,
            say=self._say,
            again=self.pump,
            on_written=self._wrote,
            on_downgraded=self._on_downgraded,
        )

    def activate(self) -> None:
        """Send from now on."""
        self.active = not self.gone.is_set()
        if self._persistent and self.connection.session_present and self._feed.released:
            self.connection.resume(self._feed.released)
        self._outgoing.begin()
        if self.active:
            self._steady = asyncio.get_running_loop().call_later(STEADY, self._prove)
            self._look_at_certificates()

    def announce(self, messages: Mapping[str, Publication]) -> None:
        """Publish these, topic -> message, before anything else that waits; an older one of that topic goes unsent."""
        self._announcements.update(messages)
        self.pump()

    def say(self, message: Publication) -> bool:
        """Publish this once, before readings that wait; return whether there was room for it."""
        if not self.active or len(self._sayings) >= SAYINGS:
            return False
        self._sayings.append(message)
        self.pump()
        return True

    def pump(self) -> None:
        """Send what there is, as far as the window reaches."""
        if not self.active or self._pumping:
            return
        self._pumping = True
        try:
            if self._announcements:
                self._send_announcements()
            if self._sayings:
                self._send_sayings()
            while not self._announcements and self._outgoing.send():
                pass
        finally:
            self._pumping = False

    def rest(self) -> None:
        """Take nothing more."""
        self.active = False
        if self._opened:
            self._outgoing.rest()

    async def leave(self, farewell: Mapping[str, Publication], timeout: float) -> None:
        """Send nothing more, wait for what is in flight, say `farewell`, disconnect: `timeout` seconds for each."""
        self.rest()
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
            ids = [token for token in tokens if token < ANNOUNCEMENT]
            self._announcing -= len(tokens) - len(ids)
        else:
            ids = tokens
        if not self._proven and not self._written.issuperset(tokens):
            self._prove()
        if ids:
            self._outgoing.acknowledged(ids)
        self.pump()

    def recorded(self, tokens: list[int]) -> None:
        """QoS 2: the broker has these, and may pass them on once the outbox knows that safely."""
        self._feed.release(tokens, partial(self._release, tokens))

    def refused(self, token: int, reason: int, said: str) -> None:
        """The broker does not want this one."""
        words = f"{in_words(reason)}: {said}" if said else in_words(reason)
        if token >= ANNOUNCEMENT:
            self._announcing -= 1
        elif not self._outgoing.refused(token, reason, words):
            # Try another broker. Not at once: what else came with this one has to be heard first.
            self.rest()
            asyncio.get_running_loop().call_soon(self.abandon, f"publish refused: {words}")
        self.pump()

    def writable(self) -> None:
        """The broker reads again."""
        self.pump()

    def received(self, message: Message) -> None:
        """A message for a subscription: it is confirmed once the observer has it, and the outbox its identifier."""
        self._observer.received(message)
        if self._persistent and message.qos:
            self._confirming.soon(message.packet_id, noted=message.qos == 2)
        if not self._observer.roomy():
            self.connection.hold(True)

    def forgotten(self, packet_id: int) -> None:
        """The broker will use this identifier for another message, once it knows that the outbox has forgotten it."""
        self._confirming.soon(packet_id, noted=True)

    def lost(self, error: ConnectionLost) -> None:
        """The link is gone."""
        if not self.gone.is_set():
            self.error = error
            self._end(str(error))

    # ----

    def _release(self, tokens: list[int]) -> None:
        if not self.gone.is_set():
            self.connection.release(tokens)

    def _confirm(self, identifiers: Sequence[int]) -> None:
        if not self.gone.is_set():
            self.connection.confirm(identifiers)

    def _look_at_certificates(self) -> None:
        """Say which of them end soon; again every day, because a link may live for months."""
        for notice in certificate_notices(self.broker.options.tls, self.connection.transport, time.time()):
            self._say(notice)
        if self.broker.address.tls:
            self._daily = asyncio.get_running_loop().call_later(DAY, self._look_at_certificates)

    def _wrote(self, tokens: Iterable[int]) -> None:
        if not self._proven:
            self._written.update(tokens)

    def _prove(self) -> None:
        if not self._proven:
            self._proven = True
            self._written.clear()
            self._on_proven(self.index)

    def _end(self, why: str) -> None:
        self.rest()
        self.why = why
        for timer in (self._steady, self._daily):
            if timer is not None:
                timer.cancel()
        # It may be lost before `open` has returned, and then nothing is in flight.
        if self._opened:
            released = set(self._feed.released)
            self._feed.left([token for token in self.in_flight if token not in released])
        self.gone.set()

    @property
    def in_flight(self) -> list[int]:
        """The ids of what was sent and is not acknowledged; still right after the link is gone."""
        return self._outgoing.of([token for token in self.connection.in_flight if token < ANNOUNCEMENT])

    def _send_announcements(self) -> None:
        while self._announcements and self.connection.room > 0:
            topic = next(iter(self._announcements))
            publication = self._announcements.pop(topic)
            if not self._sent(publication):
                self._announcements[topic] = publication
                return

    def _send_sayings(self) -> None:
        while self._sayings and self.connection.room > 0 and self._announcing < self._share:
            if not self._sent(self._sayings[0]):
                return
            self._sayings.popleft()

    def _sent(self, publication: Publication) -> bool:
        """Send it, if this broker takes it at all; return False if it has to wait for an acknowledgement."""
        batch = self._outgoing.fitting.announcement(publication)
        if batch is None:
            return True
        token = ANNOUNCEMENT + self._announced + 1
        if not self.connection.accepts(token):
            return False
        self._announced += 1
        self._announcing += 1
        message = (publication.topic.encode(), publication.payload, token)
        self.connection.publish([message], batch.qos, batch.retain, batch.properties)
        return True
