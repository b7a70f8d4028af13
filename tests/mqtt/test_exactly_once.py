"""QoS 2 over links that are cut anywhere, and processes that die anywhere: exactly once, both ways."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt import Message, Options
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.events import Acknowledged, Event, Forgotten, Recorded
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Connack, Connect, Packet, Pubcomp, Publish, Pubrec, Pubrel
from gateway.mqtt.session import Session

WINDOW = 4
OPTIONS = Options("me", numbered=True, hold_received=True, clean=False, session_expiry=9, window=WINDOW)
LEVELS = {4, 5}


class ModelBroker:
    """A broker that keeps one session, written from the specification; it reuses identifiers as soon as it may."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.taken: list[int] = []  # what the client has published
        self.recorded: set[int] = set()
        self.waiting: list[int] = []  # what the client is to get
        self.outgoing: dict[int, int | None] = {}  # identifier -> number; None after PUBREC
        self.out = bytearray()
        self.framer = Framer(1 << 20, level)
        self.known = False
        self.linked = False

    def connected(self) -> None:
        """A new connection: bytes of the old one are gone."""
        self.out.clear()
        self.linked = False
        self.framer = Framer(1 << 20, self.level)

    def say(self, packet: Packet) -> None:
        self.out += encode(packet, self.level)

    def read(self, data: bytes) -> None:
        for first, body in self.framer.feed(data):
            self.take(decode(first, body, self.level))

    def take(self, packet: Packet) -> None:
        match packet:
            case Connect():
                self.say(Connack(self.known))
                self.known = self.linked = True
                for packet_id, number in self.outgoing.items():
                    self.say(Pubrel(packet_id) if number is None else self.publish(packet_id, number, dup=True))
            case Publish():
                if packet.packet_id not in self.recorded:
                    self.recorded.add(packet.packet_id)
                    self.taken.append(int(packet.payload))
                self.say(Pubrec(packet.packet_id))
            case Pubrel():
                self.recorded.discard(packet.packet_id)
                self.say(Pubcomp(packet.packet_id))
            case Pubrec():
                assert packet.packet_id in self.outgoing
                self.outgoing[packet.packet_id] = None
                self.say(Pubrel(packet.packet_id))
            case Pubcomp():
                self.outgoing.pop(packet.packet_id, None)
        self.push()

    def publish(self, packet_id: int, number: int, dup: bool = False) -> Publish:
        return Publish("t", b"%d" % number, 2, dup=dup, packet_id=packet_id)

    def push(self) -> None:
        while self.linked and self.waiting and len(self.outgoing) < 2:
            packet_id = next(one for one in range(1, 4) if one not in self.outgoing)
            number = self.waiting.pop(0)
            self.outgoing[packet_id] = number
            self.say(self.publish(packet_id, number))


class Owner:
    """Who uses the engine as it wants to be used. What is durable survives `die`, the rest does not."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.broker = ModelBroker(level)
        self.durable: dict[str, Any] = {
            "put": [],
            "ends": [],
            "released": set(),
            "sent": set(),
            "got": [],
            "ids": set(),
        }
        self.put = 0  # numbers given out
        self.connect()

    def connect(self) -> None:
        """Begin a connection, as after a restart: only what is durable is known."""
        self.broker.connected()
        self.session = Session(OPTIONS, self.level, set(self.durable["ids"]), remembers=True)
        self.out = bytearray(self.session.connect())
        self.open = False
        self.to_release: list[int] = []
        self.to_store: list[Message | Forgotten] = []

    def publish(self) -> None:
        """Put a new message."""
        # Numbers far apart, so that identifiers meet: 1 + n * 65_000 are all the same one.
        self.durable["put"].append(self.put // 2 + self.put % 2 * 65_000)
        self.put += 1
        self.pump()

    def pump(self) -> None:
        session, durable = self.session, self.durable
        if not self.open:
            return
        busy = {*session.in_flight.tokens, *durable["released"], *durable["ends"]}
        tokens = [one for one in durable["put"] if one not in busy][: session.window - len(session.in_flight)]
        for token in tokens[: session.in_flight.fitting(tokens)]:
            dup = token in durable["sent"]
            durable["sent"].add(token)
            self.out += session.publish([(b"t", b"%d" % token, token)], 2, False, 0.0, dup=dup)

    def read(self, data: bytes) -> None:
        for event in self.session.receive(data):
            self.told(event)
        self.out += self.session.replies()
        self.pump()

    def told(self, event: Event) -> None:
        match event:
            case Connack():
                self.open = True
                self.out += self.session.sending.resume(sorted(self.durable["released"]), 0.0)
            case Recorded():
                self.to_release += event.tokens
            case Acknowledged():
                self.durable["ends"] += event.tokens
                self.durable["released"].difference_update(event.tokens)
            case Message() | Forgotten():
                self.to_store.append(event)
            case _:
                raise AssertionError(event)

    def commit(self) -> None:
        """Make durable what was told, and then say so."""
        durable, session = self.durable, self.session
        durable["released"].update(self.to_release)
        self.out += session.sending.release(self.to_release, 0.0)
        for one in self.to_store:
            if isinstance(one, Message):
                durable["got"].append(int(one.payload))
                durable["ids"].add(one.packet_id)
            else:
                durable["ids"].remove(one.packet_id)
        self.out += session.receiving.confirm([one.packet_id for one in self.to_store])
        self.to_release, self.to_store = [], []

    def flow(self, there: int, back: int) -> None:
        """Let so many bytes go over the line in each direction."""
        data, self.out = bytes(self.out[:there]), self.out[there:]
        self.broker.read(data)
        data, self.broker.out = bytes(self.broker.out[:back]), self.broker.out[back:]
        self.read(data)


# Flows are drawn most often: in a packet or two, so that cuts come between any two steps of a message.
FLOW = st.tuples(st.just("flow"), st.integers(0, 40), st.integers(0, 40))
STEPS = st.lists(
    st.one_of(FLOW, FLOW, FLOW, *(st.just((word,)) for word in ("put", "send", "commit", "cut"))),
    min_size=30,
    max_size=120,
)


@settings(max_examples=300)
@given(level=st.sampled_from(sorted(LEVELS)), steps=STEPS)
def test_exactly_once_both_ways(level: int, steps: list[tuple[Any, ...]]) -> None:
    """A broker that keeps the session and an owner that keeps ids, tokens and phases lose nothing and double nothing.

    The connection is cut between any two bytes; all that is not durable is forgotten then, as after a SIGKILL.
    """
    owner, sent_back = Owner(level), 0
    for step in steps:
        match step:
            case ("put",):
                owner.publish()
            case ("send",):
                owner.broker.waiting.append(sent_back)
                sent_back += 1
                owner.broker.push()
            case ("commit",):
                owner.commit()
            case ("cut",):
                owner.connect()
            case ("flow", there, back):
                owner.flow(there, back)
    for _ in range(6 * (owner.put + sent_back) + 6):
        owner.flow(1 << 20, 1 << 20)
        owner.commit()
    numbers = owner.durable["put"]
    assert sorted(owner.broker.taken) == sorted(numbers), "the broker must have each message once"
    assert Counter(owner.durable["ends"]) == Counter(numbers), "each message must have one end"
    assert owner.durable["got"] == list(range(sent_back)), "each message must come once, in order"
    assert not owner.session.in_flight.tokens
    assert not owner.durable["ids"]
    assert not owner.session.receiving._unconfirmed
