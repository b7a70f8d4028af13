"""What goes out over one link: taken from the feed, rendered and sent, as far and as fast as everything allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from gateway.mqtt import Connection
from gateway.outbox import Feed
from gateway.uplink.broker import Broker
from gateway.uplink.bundles import Bundles, Entry
from gateway.uplink.catchup import Catchup
from gateway.uplink.fitting import Fitting
from gateway.uplink.manner import Manner
from gateway.uplink.pace import Pace
from gateway.uplink.profiles import profile
from gateway.uplink.route import Batch, Route
from gateway.uplink.suspicion import Suspicion

BATCH = 500
"""Entries rendered and written at once."""
ANNOUNCEMENT = 1 << 61
"""Tokens from here on are not entries of the outbox."""
NEVER = (0x90, 0x95, 0x99)
"""Refusals that concern one message, for ever: topic name invalid, packet too large, payload format invalid."""
QUOTA = (0x96, 0x97)
"""Refusals that concern what was sent of late, and no message: message rate too high, quota exceeded."""
IDENTIFIERS = 65_000
"""Ids that have packet identifiers of their own in a session that is kept; beyond, an older one must be done with."""
CAREFUL = 20
"""QoS 2 messages in flight before MQTT 5, which cannot say how many a broker takes: mosquitto acknowledges more than
its max_inflight_messages, 20 unless configured, and loses them."""
_TURN = 0.001
"""Seconds until a timer in the next turn of the loop: what had come in is handled then, such as the end of a link."""


class Outgoing:
    """Sends over an open connection, and knows what each message in flight stands for.

    `persistent`: the broker keeps the session. `again` is called after a wait, when more may be sent; `on_written` with
    tokens that were sent at QoS 0.
    """

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        route: Route,
        feed: Feed,
        manner: Manner,
        *,
        persistent: bool,
        suspicion: Suspicion,
        say: Callable[[str], None],
        again: Callable[[], None],
        on_written: Callable[[Iterable[int]], None],
        on_downgraded: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._route = route
        self._feed = feed
        self._persistent = persistent
        self._suspicion = suspicion
        self._say = say
        self._again = again
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._held = self._looked = 0.0  # seconds for which it is known that the link held, and for which it seemed to
        known = profile(broker.profile)
        self.fitting = Fitting(known, connection, self._set_aside, say=say, on_downgraded=on_downgraded)
        self._paces = [Pace(known.messages_per_second, known.bytes_per_second), manner.pace]
        self._paces = [pace for pace in self._paces if pace.limited]
        window = broker.options.window
        self._bundles = None if manner.batch is None else Bundles(feed, manner.batch, window)
        self._window = connection.room  # messages that may be in flight
        self._catchup = Catchup(
            self._window if self._bundles is None else window, broker.options.ack_timeout, manner.batch or 1
        )
        self._live_first = manner.live_first
        self._narrow = False  # QoS 2 is in use, and the broker cannot say how many it takes
        self._later: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Take what comes from now on for live."""
        if self._live_first and not self._suspicion.aroused:  # else suspects would be behind all of a backlog
            self._feed.begin_live()

    def send(self) -> bool:
        """Send some of what there is; return whether there may be more that can be sent now."""
        if (room := self._room()) <= 0:
            return False
        return self._send_some(room) if self._bundles is None else self._send_one(self._bundles)

    def rest(self) -> None:
        """Take nothing more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._bundles is not None:
            self._feed.left(self._bundles.clear(), sent=False)

    def of(self, tokens: list[int]) -> list[int]:
        """Return the ids that these messages stand for."""
        return tokens if self._bundles is None else self._bundles.of(tokens)

    # ---- what the broker says

    def acknowledged(self, tokens: list[int]) -> None:
        """The broker has taken these over."""
        self._catchup.acknowledged(tokens, self._loop.time())
        ids = tokens if self._bundles is None else self._bundles.ended(tokens)
        if self._suspicion.aroused:
            self._suspicion.acknowledged(ids)
            self.begin()
        if self._connection.downgraded:
            self._say(f"{self._broker} has no QoS 2: it acknowledges such messages as those of QoS 1")
        self._feed.acknowledged(ids)

    def refused(self, token: int, reason: int, words: str) -> bool:
        """The broker does not want this one; return whether the link is worth keeping."""
        if reason in NEVER:
            # Which reading of several is to blame shows when they go alone.
            if self._bundles is not None and (ids := self._bundles.isolate(token)):
                self._feed.left(ids)
            else:
                self._set_aside(token, words)
            return True
        self._feed.left(self._ended(token))
        if reason not in QUOTA:  # it concerns all of them, such as not authorised
            return False
        self._say(f"{self._broker} refuses some messages for now, and so gets them more slowly: {words}")
        return not self._catchup.refused(token, self._loop.time())

    # ---- how much

    def _room(self) -> int:
        """Return how many messages may be sent now; where that is a matter of time, `again` is called then."""
        connection, suspicion = self._connection, self._suspicion
        room, now = connection.room, self._loop.time()
        if self._narrow:
            room = min(room, CAREFUL - len(connection.in_flight))
        if suspicion.aroused:
            suspicion.forget(self._feed.waits)
            self.begin()
            in_flight = len(connection.in_flight)
            room = min(room, suspicion.window(room + in_flight) - in_flight)
            if self._held < suspicion.calm:
                room = self._unless(max(self._since + suspicion.calm - now, _TURN), room)
        if self._catchup.wary:
            room = self._catchup.room(room, self._in_flight(), now)
            room = self._unless(self._catchup.wait(now), room)
        for pace in self._paces:
            if room > 0:
                room = self._unless(pace.wait(now), min(room, pace.allowance(now)))
        return room

    def _unless(self, wait: float, room: int) -> int:
        """Return `room`, or 0 if there is something to wait for first."""
        if wait <= 0:
            return room
        if self._later is None or self._later.when() > self._loop.time() + wait:
            if self._later is not None:
                self._later.cancel()
            self._later = self._loop.call_later(wait, self._waited)
        return 0

    def _waited(self) -> None:
        self._later = None
        self._held, self._looked = self._looked, self._loop.time() - self._since  # an end would be known a turn later
        self._again()

    def _in_flight(self) -> int:
        """Return how many readings are in flight, or taken to be sent."""
        return self._window - self._connection.room if self._bundles is None else self._bundles.count

    def _backlog(self) -> int | None:
        """Return how many readings of a backlog may be taken; None: there is no difference."""
        if not self._live_first:
            return None
        return self._catchup.allowance(self._in_flight(), lumps=self._bundles is not None)

    def _upto(self) -> int | None:
        """Return the id from which on nothing may be taken."""
        if self._suspicion.aroused:
            return self._suspicion.newest + 1  # suspects first, whatever else is live
        return self._feed.recorded + IDENTIFIERS if self._persistent else None

    # ---- sending

    def _send_some(self, room: int) -> bool:
        limit = room if room < BATCH else BATCH
        entries = self._feed.take(limit, self._upto(), self._backlog())
        return self._send(entries) and len(entries) == limit

    def _send_one(self, bundles: Bundles) -> bool:
        bundles.singly = self._suspicion.aroused
        entry = bundles.next(self._upto(), self._backlog())
        if entry is None:
            return False
        for batch in self._route.batches([entry], self._feed):
            if self.fitting.too_big(batch) and bundles.split(entry.id):
                return True
            for fitted in self.fitting.fit(batch):
                self._publish(fitted)
        return True

    def _send(self, entries: Sequence[Entry]) -> bool:
        """Send; return False if not all of it could be, and the rest has been put back."""
        fit = len(entries)
        if self._persistent:  # else packet identifiers are whatever is free
            fit = self._connection.fitting([entry.id for entry in entries])
        back: list[int] = []  # what a full QoS 2 window keeps back, and all that is behind it
        for batch in self._route.batches(entries[:fit], self._feed) if fit else ():
            for fitted in self.fitting.fit(batch):
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
        if self._connection.protocol == "5":
            return batch, []
        self._narrow = True
        room = max(0, CAREFUL - len(self._connection.in_flight))
        return batch._replace(messages=batch.messages[:room]), [token for _, _, token in batch.messages[room:]]

    def _publish(self, batch: Batch) -> None:
        messages, qos, retain, properties = batch
        if not messages:
            return
        now = self._loop.time()
        if self._paces:
            size = sum(len(topic) + len(payload) for topic, payload, _ in messages)
            for pace in self._paces:
                pace.spent(len(messages), size, now)
        if not qos:
            self._on_written(token for _, _, token in messages)
        try:
            if self._persistent and qos:
                for dup, some in _again(messages, self._feed.was_sent):
                    self._connection.publish(some, qos, retain, properties, dup=dup)
            else:
                self._connection.publish(messages, qos, retain, properties)
        except ValueError as error:  # what MQTT cannot carry; none of them was sent
            if len(messages) == 1:
                self._set_aside(messages[0][2], f"rejected: {error}")
                return
            for message in messages:
                self._publish(Batch([message], qos, retain, properties))
        else:
            # At QoS 0 nothing is in flight; there it is the transport that says when it is too much.
            self._catchup.sent(messages[-1][2], self._in_flight() if qos else self._window, now)

    def _set_aside(self, token: int, words: str) -> None:
        """No broker will take this."""
        self._feed.quarantine(self._ended(token), words)

    def _ended(self, token: int) -> list[int]:
        return [token] if self._bundles is None else self._bundles.ended((token,))


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
