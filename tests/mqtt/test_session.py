"""The session without I/O: bytes in, events out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt import Message, Options, ProtocolError, Will
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.events import Acknowledged, Answered, Event, Refused
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from gateway.mqtt.properties import Properties
from gateway.mqtt.session import Session

LEVELS = pytest.mark.parametrize("level", [4, 5])


def session(level: int = 5, **options: object) -> Session:
    """Return a session that the broker has welcomed."""
    made = Session(Options("me", **options), level)  # type: ignore[arg-type]
    assert made.receive(encode(Connack(), level)) == [Connack()]
    return made


def send(made: Session, count: int, first: int = 0) -> list[int]:
    """Send messages with the tokens from `first` on, and return their packet identifiers."""
    data = made.publish([(b"t", b"x", first + n) for n in range(count)], 1, False, 0.0)
    return [packet.packet_id for packet in read(data, made.level) if isinstance(packet, Publish)]


def read(data: bytes, level: int) -> list[Packet]:
    """Read what the session sends."""
    return [decode(start, body, level) for start, body in Framer(1 << 24, level).feed(data)]


def flat(events: list[Event]) -> list[object]:
    """Take reports of several acknowledgements apart, so that only what happened counts."""
    found: list[object] = []
    for event in events:
        found += event.tokens if isinstance(event, Acknowledged) else [event]
    return [str(event) if isinstance(event, ProtocolError) else event for event in found]


def test_connect_says_what_the_options_say() -> None:
    """CONNECT carries name, will, keep-alive and limits; properties are for MQTT 5 only."""
    options = Options("me", "u", b"p", 29.2, False, 3600, will=Will("w", b"gone"), maximum_packet_size=5000)
    said = Properties(maximum_packet_size=5000, receive_maximum=1000, session_expiry_interval=3600)
    assert read(Session(options, 5).connect(), 5) == [Connect(5, "me", False, 30, "u", b"p", options.will, said)]
    assert read(Session(options, 4).connect(), 4) == [Connect(4, "me", False, 30, "u", b"p", options.will)]


@LEVELS
@given(
    batch=st.lists(st.tuples(st.sampled_from([b"a", "ä/b".encode(), b"c" * 200]), st.binary(max_size=300)), max_size=8),
    qos=st.integers(0, 1),
    retain=st.booleans(),
)
def test_a_batch_is_what_the_codec_would_write(
    level: int, batch: list[tuple[bytes, bytes]], qos: int, retain: bool
) -> None:
    """The fast way of writing messages gives the same bytes as the plain one."""
    made = session(level)
    data = made.publish([(*one, n) for n, one in enumerate(batch)], qos, retain, 0.0)
    plain = [
        Publish(topic.decode(), payload, qos, retain, packet_id=n if qos else 0)
        for n, (topic, payload) in enumerate(batch, 1)
    ]
    assert data == b"".join(encode(packet, level) for packet in plain)
    assert made.in_flight.tokens == (list(range(len(batch))) if qos else [])


@LEVELS
def test_sizes_around_every_length_of_the_length(level: int) -> None:
    """A message is written right where its length takes one byte more."""
    made = session(level)
    for size in (100, 121, 122, 123, 124, 16_376, 16_377, 16_378, 16_379, 2_097_144, 2_097_145):
        (packet,) = read(made.publish([(b"t", bytes(size), 1)], 1, False, 0.0), level)
        assert isinstance(packet, Publish)
        assert len(packet.payload) == size


@pytest.mark.parametrize("topic", [b"", b"t" * 65_536])
def test_a_batch_that_cannot_be_written_takes_nothing(topic: bytes) -> None:
    """After a ValueError nothing is in flight that was never sent."""
    made = session()
    with pytest.raises(ValueError, match="topic"):
        made.publish([(b"fine", b"", 1), (topic, b"", 2)], 1, False, 0.0)
    with pytest.raises(ValueError, match="QoS"):
        made.publish([(b"fine", b"", 1)], 3, False, 0.0)
    assert made.in_flight.tokens == []
    assert len(made.in_flight) == 0


@LEVELS
def test_topics_without_end_do_not_fill_the_memory(level: int) -> None:
    """What is kept ready for the next message of a topic is bounded."""
    made = session(level)
    for first in range(0, 6000, 1000):
        made.publish([(b"t/%d" % n, bytes(n), 1) for n in range(first, first + 1000)], 0, False, 0.0)
    assert len(made.sending._topics) <= 4096
    assert all(len(headers) <= 4096 for headers in made.sending._headers.values())


@settings(max_examples=60)
@given(
    level=st.sampled_from([4, 5]),
    script=st.lists(st.integers(0, 9), max_size=40),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    ending=st.sampled_from([b"", encode(Pingreq(), 4), b"\x40\x02\x00\x00", b"\x00"]),
)
def test_any_split_gives_the_same_events(level: int, script: list[int], cuts: list[int], ending: bytes) -> None:
    """Where the network cuts the stream makes no difference to what is told, whichever way it is read."""
    # A third of the acknowledgements is out of order, some come twice, and some are for nobody.
    stream, identifier = bytearray(encode(Connack(), level)), 0
    for step in script:
        if step < 6:
            identifier += 1
            stream += encode(Puback(identifier, 0x10 if level == 5 and step else 0), level)
        elif step == 6:
            stream += encode(Puback(identifier + 2), level)
        elif step == 7 and level == 5:
            stream += encode(Puback(identifier + 3, 0x97, {"reason_string": "full"}), level)
        elif step == 8:
            stream += encode(Publish("t", b"x", 1, packet_id=7), level)
        else:
            stream += encode(Pingresp(), level) + encode(Suback(9, (0,)), level)
    stream += ending

    def told(at: list[int]) -> tuple[list[object], bytes, list[int]]:
        made = Session(Options("me"), level)
        made.in_flight.sent(range(1, 60), range(59), 0.0)
        events: list[Event] = []
        for start, stop in zip([0, *at], [*at, len(stream)], strict=True):
            events += made.receive(bytes(stream[start:stop]))
        return flat(events), made.replies(), made.in_flight.tokens

    whole = told([])
    assert told(sorted(min(cut, len(stream)) for cut in cuts)) == whole
    assert told(list(range(len(stream)))) == whole


@LEVELS
@pytest.mark.parametrize("reason", [0, 0x10])
@pytest.mark.parametrize("count", [1, 2, 3, 700])
def test_many_acknowledgements_are_one_event(level: int, reason: int, count: int) -> None:
    """One read gives one report, in the order in which the broker acknowledged, whatever form its PUBACKs have."""
    made = session(level)
    data = b"".join(encode(Puback(one, reason if level == 5 else 0), level) for one in reversed(send(made, count, 5)))
    assert made.receive(data) == [Acknowledged(list(range(5 + count - 1, 4, -1)))]
    assert made.in_flight.tokens == []
    assert len(made.in_flight) == 0


def test_acknowledgements_around_something_else_keep_their_place() -> None:
    """What comes between two acknowledgements is told between them."""
    made = session()
    first, second, third = (encode(Puback(one, 0x10), 5) for one in send(made, 3))
    data = first + second + encode(Publish("t", b"", 0), 5) + third
    assert made.receive(data) == [Acknowledged([0, 1]), Message("t", b""), Acknowledged([2])]


def test_a_refusal_among_acknowledgements_is_told_as_one() -> None:
    """A PUBACK of 0x80 or above is never taken for success, wherever it stands in a read."""
    made = session()
    reasons = [0x10, 0x10, 0x97, 0x10]
    data = b"".join(encode(Puback(one, reason), 5) for one, reason in zip(send(made, 4), reasons, strict=True))
    assert made.receive(data) == [Acknowledged([0, 1]), Refused(2, 0x97), Acknowledged([3])]
    all_refused = b"".join(encode(Puback(one, 0x97), 5) for one in send(made, 4))
    assert made.receive(all_refused) == [Refused(n, 0x97) for n in range(4)]


@LEVELS
def test_an_acknowledgement_of_nothing_is_passed_over(level: int) -> None:
    """A PUBACK for an identifier that is not in flight acknowledges nothing, in any form, alone or among others."""
    made = session(level)
    known = send(made, 1)[0]
    assert made.receive(encode(Puback(known + 1), level) * 5) == []
    assert made.receive(encode(Puback(known + 1), level)) == []
    assert made.receive(b"".join(encode(Puback(one), level) for one in (9, known, known))) == [Acknowledged([0])]


@LEVELS
def test_a_message_that_looks_like_acknowledgements_is_none(level: int) -> None:
    """The rest of a message is the rest of a message, even if its payload is made of PUBACKs."""
    made = session(level)
    payload = b"".join(encode(Puback(one), level) for one in send(made, 5))
    data = encode(Publish("t", payload), level)
    begin = len(data) - len(payload)
    assert made.receive(data[:begin]) == []
    assert made.receive(data[begin:]) == [Message("t", payload)]
    assert len(made.in_flight) == 5


@pytest.mark.parametrize("among", [0, 5])
@pytest.mark.parametrize("wire", ["40 02 0000", "40 03 0000 10", "40 03 0000 97"])
def test_an_acknowledgement_of_identifier_0_is_a_breach(wire: str, among: int) -> None:
    """No packet has the identifier 0, whichever way its PUBACK is read."""
    made = session()
    fine = b"".join(encode(Puback(one, 0x10 if "03" in wire else 0), 5) for one in send(made, among))
    *told, error = made.receive(fine + bytes.fromhex(wire))
    assert flat(told) == list(range(among))
    assert isinstance(error, ProtocolError)


def test_a_token_that_nobody_asks_for_takes_room_and_is_not_told() -> None:
    """A message with the token -1 is in flight like any other, without a report."""
    made = session()
    identifiers = send(made, 3, first=-1)
    assert len(made.in_flight) == 3
    assert made.in_flight.tokens == [0, 1]
    assert made.receive(encode(Puback(identifiers[0]), 5)) == []
    assert len(made.in_flight) == 2


@LEVELS
def test_a_message_is_owed_an_acknowledgement_at_qos_1(level: int) -> None:
    """An incoming QoS 1 message is answered with PUBACK, once; QoS 0 is not."""
    made = session(level)
    data = encode(Publish("t", b"a", 1, True, True, 7), level) + encode(Publish("t", b"b"), level)
    assert made.receive(data) == [Message("t", b"a", 1, True, True, packet_id=7), Message("t", b"b")]
    assert made.replies() == encode(Puback(7), level)
    assert made.replies() == b""


def test_the_broker_is_obeyed() -> None:
    """What CONNACK says is what holds, and what it does not say has the default of the specification."""
    made = Session(Options("me", keep_alive=30.0), 5)
    said = Properties(
        receive_maximum=20,
        maximum_packet_size=100,
        maximum_qos=1,
        retain_available=0,
        topic_alias_maximum=3,
        server_keep_alive=10,
        assigned_client_identifier="you",
        wildcard_subscription_available=0,
        shared_subscription_available=0,
    )
    made.receive(encode(Connack(properties=said), 5))
    limits = made.limits
    assert (limits.receive_maximum, limits.maximum_packet_size, limits.maximum_qos) == (20, 100, 1)
    assert (limits.retain_available, limits.topic_alias_maximum) == (False, 3)
    assert (limits.keep_alive, limits.client_id) == (10.0, "you")
    assert (limits.wildcard_subscription_available, limits.shared_subscription_available) == (False, False)
    assert made.window == 20
    plain = session(5, window=7)
    said_nothing = plain.limits
    assert (plain.limits.receive_maximum, plain.limits.maximum_packet_size, plain.limits.maximum_qos) == (
        65_535,
        None,
        2,
    )
    assert (said_nothing.retain_available, said_nothing.keep_alive, said_nothing.client_id) == (True, 30.0, "me")
    assert plain.window == 7


def test_fits_is_exact() -> None:
    """`fits` says yes up to the very byte that the broker allows, and no above it."""
    made = session()
    for size in (0, 10, *range(115, 125), 130, *range(16_370, 16_380), 16_380, 2_097_140, 2_097_145):
        written = len(made.publish([(b"top", bytes(size), -1)], 1, False, 0.0))
        for largest, expected in ((written, True), (written - 1, False)):
            said = Properties(maximum_packet_size=largest)
            asked = Session(Options("me"), 5)
            asked.receive(encode(Connack(properties=said), 5))
            assert asked.fits(b"top", bytes(size)) is expected
    assert not made.fits(b"", b"")
    assert not made.fits(b"t" * 65_536, b"")
    assert made.fits(b"t" * 65_535, b"")


OUT_OF_PLACE = [
    (5, Connack(), 0x82),  # a second one
    (5, Connect(5, "x"), 0x82),
    (5, Pingreq(), 0x82),
    (5, Subscribe(1, (Subscription("a"),)), 0x82),
    (5, Auth(), 0x82),
    (4, Disconnect(), 0x82),  # only the client says it before MQTT 5
    (5, Publish("", b"", properties={"topic_alias": 1}), 0x94),
]


@pytest.mark.parametrize(("level", "packet", "reason"), OUT_OF_PLACE)
def test_a_packet_where_it_cannot_be_is_the_end(level: int, packet: Packet, reason: int) -> None:
    """A broker that breaks the protocol is told why, and what it said before still counts; nothing after it is read."""
    made = session(level)
    acknowledged = encode(Puback(send(made, 1)[0]), level)
    told, error = made.receive(acknowledged + encode(packet, level) + acknowledged)
    assert told == Acknowledged([0])
    assert isinstance(error, ProtocolError)
    assert error.reason == reason
    assert made.receive(encode(Pingresp(), level)) == []


@pytest.mark.parametrize("packet", [Publish("t", b""), Puback(1), Pingresp(), Disconnect(), Suback(1, (0,))])
def test_nothing_comes_before_connack(packet: Packet) -> None:
    """The first packet of a broker is CONNACK."""
    (error,) = Session(Options("me"), 5).receive(encode(packet, 5))
    assert isinstance(error, ProtocolError)
    assert error.reason == 0x82


@LEVELS
def test_subscribe_takes_an_identifier_of_its_own(level: int) -> None:
    """The identifier of a SUBSCRIBE is used by no message until the answer; an answer to nothing is passed over."""
    made = session(level)
    identifier, data = made.subscribe([("a/#", 1), ("b", 0)])
    assert read(data, level) == [Subscribe(identifier, (Subscription("a/#", 1), Subscription("b", 0)))]
    made.in_flight.acknowledged(send(made, 65_530))
    around = send(made, 4) + send(made, 10)
    assert identifier not in around
    assert len(set(around)) == 14
    assert made.receive(encode(Suback(identifier, (1, 0x80)), level)) == [Answered(identifier, [1, 0x80])]
    assert made.receive(encode(Suback(identifier, (1, 0x80)), level)) == []
    assert identifier in send(made, 65_535 - 14)


@pytest.mark.parametrize("filters", [[], [("a", 3)], [("", 0)], [("a\0", 0)], [("a#", 0)]])
def test_a_subscription_that_cannot_be_made_is_a_value_error(filters: list[tuple[str, int]]) -> None:
    """Nothing is asked of the broker that it could not grant, and no identifier is lost by it."""
    made = session()
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ, the rule is one
        made.subscribe(filters)
    assert len(send(made, 65_535)) == 65_535
