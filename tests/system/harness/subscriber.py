"""The independent peer: paho-mqtt clients that keep account of every reading that arrives."""

from __future__ import annotations

import fcntl
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho

from gateway.formats.packing import unpack
from tests.system.harness.broker import Mosquitto

# What the kernel holds for a subscriber without the broker having to; a tenth of what was seen to be safe.
BACKLOG = 200_000
VARYING = frozenset({"historical", "ts", "time_quality", "ts_min", "ts_max"})


class Arrival(NamedTuple):
    """One message as it came in; `at` is the monotonic clock in seconds."""

    topic: str
    payload: bytes
    at: float
    broker: str
    retained: bool


@dataclass
class Stream:
    """What arrived of one device in one epoch."""

    arrivals: list[int] = field(default_factory=list)
    contents: dict[int, dict[str, Any]] = field(default_factory=dict)
    # Sequence numbers that arrived with two different contents.
    conflicts: list[int] = field(default_factory=list)

    @property
    def seqs(self) -> set[int]:
        """Every sequence number that arrived."""
        return set(self.contents)

    @property
    def gaps(self) -> list[int]:
        """What is missing between 1 and the highest sequence number that arrived."""
        return sorted(set(range(1, max(self.seqs, default=0) + 1)) - self.seqs)

    def take(self, content: dict[str, Any]) -> None:
        """Take one reading that has arrived."""
        seq = content["seq"]
        self.arrivals.append(seq)
        # Sent again, it may say that it is history, and its time may be known better by then.
        told = {key: value for key, value in content.items() if key not in VARYING}
        if self.contents.setdefault(seq, told) != told:
            self.conflicts.append(seq)

    @property
    def duplicates(self) -> int:
        """How many arrivals there were beyond the first of each sequence number."""
        return len(self.arrivals) - len(self.contents)

    @property
    def late(self) -> int:
        """How many first arrivals came after a higher sequence number."""
        highest, late, seen = 0, 0, set()
        for seq in self.arrivals:
            if seq not in seen and seq < highest:
                late += 1
            seen.add(seq)
            highest = max(highest, seq)
        return late

    @property
    def numbers(self) -> set[int]:
        """The device's own numbers, as its lines carried them."""
        return {content["n"] for content in self.contents.values()}


class Session:
    """One subscriber's session at one broker."""

    def __init__(self, client: paho.Client) -> None:
        self.client = client
        self.connected = False

    @property
    def keeps_up(self) -> bool:
        """Whether it is connected, and has read nearly all that was written to it."""
        connection = self.client.socket()
        if not self.connected or connection is None:
            return False
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0]) < BACKLOG


class Subscriber:
    """Sees everything below `topic` at every one of `brokers`, over their restarts."""

    def __init__(self, *brokers: Mosquitto, topic: str = "sensors/#", name: str = "subscriber") -> None:
        self._brokers = brokers
        self._topic = topic
        self._name = name
        self._clients: list[paho.Client] = []
        self._arrived = threading.Condition()
        self._arrivals: list[Arrival] = []

    def __enter__(self) -> Self:
        for broker in self._brokers:
            self._join(broker)
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.disconnect()
            client.loop_stop()
            client._reset_sockets()  # else the pair that wakes its thread stays open until it is collected

    @property
    def arrivals(self) -> Sequence[Arrival]:
        """Every message so far, in the order in which they came."""
        with self._arrived:
            return list(self._arrivals)

    def wait(self, predicate: Callable[[Sequence[Arrival]], object], seconds: float, what: str) -> None:
        """Wait until `predicate` is true of all that has arrived. Raises TimeoutError naming `what`.

        The predicate is asked after each message: it must be cheap, and gets the list itself.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: predicate(self._arrivals), seconds):
                raise TimeoutError(f"{what}: not within {seconds:g} s ({len(self._arrivals)} messages so far)")

    def wait_for_topic(self, topic: str, payload: bytes, seconds: float, *, broker: str | None = None) -> Arrival:
        """Return the first message with this topic and payload, from now back or on."""
        seen = 0
        found: Arrival | None = None

        def look(arrivals: Sequence[Arrival]) -> bool:
            nonlocal seen, found
            while found is None and seen < len(arrivals):
                arrival = arrivals[seen]
                seen += 1
                if arrival[:2] == (topic, payload) and broker in (None, arrival.broker):
                    found = arrival
            return found is not None

        self.wait(look, seconds, f"{topic} {payload!r}")
        assert found is not None
        return found

    def quiet(self, seconds: float, deadline: float) -> None:
        """Return when nothing has arrived for `seconds`. Raises TimeoutError after `deadline` seconds."""
        ends = time.monotonic() + deadline
        with self._arrived:
            while True:
                count = len(self._arrivals)
                if not self._arrived.wait_for(lambda count=count: len(self._arrivals) > count, seconds):
                    return
                if time.monotonic() > ends:
                    raise TimeoutError(f"still arriving after {deadline:g} s")

    def account(self, device: str) -> dict[int, Stream]:
        """Return what arrived of `device`, for each epoch."""
        streams: dict[int, Stream] = {}
        for arrival in self.arrivals:
            levels = arrival.topic.split("/")
            if len(levels) != 3 or levels[2] != device:
                continue
            for content in unpack(arrival.payload):
                streams.setdefault(content["epoch"], Stream()).take(content)
        return streams

    def count(self, device: str) -> int:
        """Return how many different readings of `device` have arrived, over all epochs."""
        return sum(len(stream.contents) for stream in self.account(device).values())

    def _join(self, broker: Mosquitto) -> None:
        """Open a session at `broker` that outlives a SIGKILL of it."""
        ready = threading.Event()
        # Without keep-alive the peer sends nothing that a killed broker could leave unread, which would reset the
        # connection and with it throw away what is still on its way to us.
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=self._name, clean_session=False)
        client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]
        session = Session(client)
        broker.watchers.append(session)

        def connected(_client: paho.Client, _data: object, flags: Any, reason: Any, _properties: object) -> None:
            # With a session restored, this asks for nothing: it is answered after all that the session had waiting.
            if not reason.is_failure:
                client.subscribe("nothing" if flags.session_present else self._topic, qos=0)

        def subscribed(*_: object) -> None:
            session.connected = True
            ready.set()

        def disconnected(*_: object) -> None:
            session.connected = False

        def received(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
            arrival = Arrival(message.topic, message.payload, time.monotonic(), broker.name, message.retain)
            with self._arrived:
                self._arrivals.append(arrival)
                self._arrived.notify_all()

        client.on_connect, client.on_subscribe = connected, subscribed
        client.on_disconnect, client.on_message = disconnected, received
        client.connect("127.0.0.1", broker.port, keepalive=0)
        client.loop_start()
        self._clients.append(client)
        if not ready.wait(10):
            raise TimeoutError(f"no subscription at {broker.name}")
        broker.save()
