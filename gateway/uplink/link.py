"""A link: one live session with one broker, through which messages go out and acknowledgements come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from gateway.mqtt import Connection, ConnectionLost, Message, Options, certificate_notices, connect, in_words
from gateway.outbox import Feed
from gateway.reading import Publication, Reading
from gateway.uplink.broker import Broker
from gateway.uplink.fitting import Fitting
from gateway.uplink.observer import Observer
from gateway.uplink.profiles import profile
from gateway.uplink.route import Batch, Route
from gateway.uplink.suspicion import Suspicion

BATCH = 500
"""Entries rendered and written at once."""
ANNOUNCEMENT = 1 << 61
"""Tokens from here on are not entries of the outbox."""
NEVER = (0x90, 0x95, 0x99)
"""Refusals that concern one message, for ever: topic name invalid, packet too large, payload format invalid."""
IDENTIFIERS = 65_000
"""Ids that have packet identifiers of their own in a session that is kept; beyond, an older one must be done with."""
CAREFUL = 20
"""QoS 2 messages in flight before MQTT 5, which cannot say how many a broker takes: mosquitto acknowledges more than
its max_inflight_messages, 20 unless configured, and loses them."""
DAY = 86400.0
STEADY = 5.0
"""Seconds after which a link on which nothing is acknowledged counts as a good one."""


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
        self._persistent = persistent
        self._suspicion = suspicion
        self._observer = observer
        self._on_proven = on_proven
        self._on_downgraded = on_downgraded
        self._say = say
        self._opened = False
        self._proven = False
        self._pumping = False
        self._fitting: Fitting
        self._written: set[int] = set()  # ids sent at QoS 0 before the link has proven itself: they prove nothing
        self._narrow = False  # QoS 2 is in use, and the broker cannot say how many it takes
        self._to_confirm: list[int] = []  # packet identifiers of what has come in
        self._noting = False  # of these, one belongs to QoS 2, and the outbox has to know first
        self._announcements: dict[str, Publication] = {}
        self._announced = 0  # tokens given out beyond ANNOUNCEMENT
        self._announcing = 0  # of these, not yet acknowledged
        self._later: asyncio.TimerHandle | None = None  # when more may be sent: by the broker's rate, or to a suspect
        self._steady: asyncio.TimerHandle | None = None
        self._daily: asyncio.TimerHandle | None = None

    async def open(self, options: Options, received: set[int] | None = None) -> None:
        """Connect. Raises ConnectError. `received`: identifiers of QoS 2 messages that the broker may send again."""
        self.connection = await connect(self.broker.address, options, self, received=received)
        self._opened = True
        self.since = asyncio.get_running_loop().time()
        self._fitting = Fitting(
            profile(self.broker.profile),
            self.connection,
            self._feed,
            say=self._say,
            on_downgraded=self._on_downgraded,
        )

    def activate(self) -> None:
        """Send from now on."""
        self.active = not self.gone.is_set()
        if self._persistent and self.connection.session_present and self._feed.released:
            self.connection.resume(self._feed.released)
        if self.active:
            self._steady = asyncio.get_running_loop().call_later(STEADY, self._prove)
            self._look_at_certificates()

    def announce(self, messages: Mapping[str, Publication]) -> None:
        """Publish these, topic -> message, before anything else that waits; an older one of that topic goes unsent."""
        self._announcements.update(messages)
        self.pump()

    def pump(self) -> None:
        """Send what there is, as far as the window reaches."""
        if not self.active or self._pumping:
            return
        feed = self._feed
        self._pumping = True
        try:
            if self._announcements:
                self._send_announcements()
            while (room := self._room()) > 0 and not self._announcements:
                limit = room if room < BATCH else BATCH
                entries = feed.take(limit, feed.recorded + IDENTIFIERS if self._persistent else None)
                if entries and not self._send(entries):
                    return
                if len(entries) < limit:
                    return
        finally:
            self._pumping = False

    async def leave(self, farewell: Mapping[str, Publication], timeout: float) -> None:
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
            ids = [token for token in tokens if token < ANNOUNCEMENT]
            self._announcing -= len(tokens) - len(ids)
        else:
            ids = tokens
        if not self._proven and not self._written.issuperset(tokens):
            self._prove()
        if self._suspicion.aroused:
            self._suspicion.acknowledged(ids)
        if self.connection.downgraded:
            self._say(f"{self.broker} has no QoS 2: it acknowledges such messages as those of QoS 1")
        if ids:
            self._feed.acknowledged(ids)
        self.pump()

    def recorded(self, tokens: list[int]) -> None:
        """QoS 2: the broker has these, and may pass them on once the outbox knows that safely."""
        self._feed.release(tokens, partial(self._release, tokens))

    def refused(self, token: int, reason: int, said: str) -> None:
        """The broker does not want this one."""
        words = f"{in_words(reason)}: {said}" if said else in_words(reason)
        if token >= ANNOUNCEMENT:
            self._announcing -= 1
        elif reason in NEVER:
            self._feed.quarantine([token], words)
        else:
            # It concerns all of them (not authorised, quota, out of order): keep them, try another broker.
            # Not at once: what else came with this one has to be heard first.
            self._feed.left([token])
            self.active = False
            asyncio.get_running_loop().call_soon(self.abandon, f"publish refused: {words}")
        self.pump()

    def writable(self) -> None:
        """The broker reads again."""
        self.pump()

    def received(self, message: Message) -> None:
        """A message for a subscription: it is confirmed once the observer has it, and the outbox its identifier."""
        self._observer.received(message)
        if self._persistent and message.qos:
            self._confirm_soon(message.packet_id, noted=message.qos == 2)
        if not self._observer.roomy():
            self.connection.hold(True)

    def forgotten(self, packet_id: int) -> None:
        """The broker will use this identifier for another message, once it knows that the outbox has forgotten it."""
        self._confirm_soon(packet_id, noted=True)

    def lost(self, error: ConnectionLost) -> None:
        """The link is gone."""
        if not self.gone.is_set():
            self.error = error
            self._end(str(error))

    # ----

    def _room(self) -> int:
        room = self.connection.room
        if self._narrow:
            room = min(room, CAREFUL - len(self.connection.in_flight))
        if self._suspicion.aroused:
            window = self._suspicion.window(room + len(self.connection.in_flight))
            room = min(room, window - len(self.connection.in_flight))
            if (wait := self.since + self._suspicion.calm - asyncio.get_running_loop().time()) > 0:
                room = 0
                self._pump_in(wait)
        if self._fitting.pace is not None and room > 0:
            now = asyncio.get_running_loop().time()
            allowed = self._fitting.pace.allowance(now)
            if allowed <= 0:
                self._pump_in(self._fitting.pace.wait(now))
            room = min(room, allowed)
        return room

    def _pump_in(self, wait: float) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait, self._resume)

    def _resume(self) -> None:
        self._later = None
        self.pump()

    def _send(self, entries: Sequence[Reading]) -> bool:
        """Send; return False if not all of it could be, and the rest has been put back."""
        fit = len(entries)
        if self._persistent:  # else packet identifiers are whatever is free
            fit = self.connection.fitting([entry.id for entry in entries])
        back: list[int] = []  # what a full QoS 2 window keeps back, and all that is behind it
        for batch in self._route.batches(entries[:fit], self._feed):
            for fitted in self._fitting.fit(batch):
                if back:
                    back += [token for _, _, token in fitted.messages]
                    continue
                if fitted.qos == 2:
                    fitted, back = self._spared(fitted)
                self._publish(fitted)
        back += [entry.id for entry in entries[fit:]]
        if back:
            self._feed.left(back, sent=False)
        return not back

    def _spared(self, batch: Batch) -> tuple[Batch, list[int]]:
        """Return what of a QoS 2 batch may go to a broker that cannot say its limit, and the ids of the rest."""
        if self.connection.protocol == "5":
            return batch, []
        self._narrow = True
        room = max(0, CAREFUL - len(self.connection.in_flight))
        return batch._replace(messages=batch.messages[:room]), [token for _, _, token in batch.messages[room:]]

    def _publish(self, batch: Batch) -> None:
        messages, qos, retain, properties = batch
        if not messages:
            return
        if self._fitting.pace is not None:
            size = sum(len(topic) + len(payload) for topic, payload, _ in messages)
            self._fitting.pace.spent(len(messages), size, asyncio.get_running_loop().time())
        if not qos and not self._proven:
            self._written.update(token for _, _, token in messages)
        try:
            if self._persistent and qos:
                for dup, some in _again(messages, self._feed.was_sent):
                    self.connection.publish(some, qos, retain, properties, dup=dup)
            else:
                self.connection.publish(messages, qos, retain, properties)
        except ValueError as error:  # what MQTT cannot carry; none of them was sent
            if len(messages) == 1:
                self._feed.quarantine([messages[0][2]], f"rejected: {error}")
                return
            for message in messages:
                self._publish(Batch([message], qos, retain, properties))

    def _release(self, tokens: list[int]) -> None:
        if not self.gone.is_set():
            self.connection.release(tokens)

    def _confirm_soon(self, packet_id: int, *, noted: bool) -> None:
        if not self._to_confirm:
            asyncio.get_running_loop().call_soon(self._confirm)
        self._to_confirm.append(packet_id)
        self._noting = self._noting or noted

    def _confirm(self) -> None:
        identifiers, self._to_confirm = self._to_confirm, []
        noting, self._noting = self._noting, False
        if noting:
            session = {**self._feed.session, "received": sorted(self.connection.received_ids)}
            self._feed.remember(session, partial(self._confirmed, identifiers))
        else:
            self._confirmed(identifiers)

    def _confirmed(self, identifiers: list[int]) -> None:
        if not self.gone.is_set():
            self.connection.confirm(identifiers)

    def _look_at_certificates(self) -> None:
        """Say which of them end soon; again every day, because a link may live for months."""
        for notice in certificate_notices(self.broker.options.tls, self.connection.transport, time.time()):
            self._say(notice)
        if self.broker.address.tls:
            self._daily = asyncio.get_running_loop().call_later(DAY, self._look_at_certificates)

    def _prove(self) -> None:
        if not self._proven:
            self._proven = True
            self._written.clear()
            self._on_proven(self.index)

    def _end(self, why: str) -> None:
        self.active = False
        self.why = why
        for timer in (self._later, self._steady, self._daily):
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
        return [token for token in self.connection.in_flight if token < ANNOUNCEMENT]

    def _send_announcements(self) -> None:
        while self._announcements and self.connection.room > 0:
            topic = next(iter(self._announcements))
            publication = self._announcements.pop(topic)
            batch = self._fitting.announcement(publication)
            if batch is None:
                continue
            token = ANNOUNCEMENT + self._announced + 1
            if not self.connection.accepts(token):
                self._announcements[topic] = publication  # after the next acknowledgement
                return
            self._announced += 1
            self._announcing += 1
            message = (topic.encode(), publication.payload, token)
            self.connection.publish([message], batch.qos, batch.retain, batch.properties)


def _again(
    messages: list[tuple[bytes, bytes, int]], was_sent: Callable[[int], bool]
) -> Iterable[tuple[bool, list[tuple[bytes, bytes, int]]]]:
    """Tell what a broker may have seen before from what it cannot have, in order."""
    runs: list[tuple[bool, list[tuple[bytes, bytes, int]]]] = []
    for message in messages:
        dup = was_sent(message[2])
        if not runs or runs[-1][0] != dup:
            runs.append((dup, []))
        runs[-1][1].append(message)
    return runs
