"""Messages that come: told once, answered when it is time, with aliases resolved and the receive maximum kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt import Message, Options, ProtocolError
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.events import Event, Forgotten
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Connack, Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from gateway.mqtt.session import Session
from tests.mqtt.packet_strategies import every_message

LEVELS = pytest.mark.parametrize("level", [4, 5])


def session(
    level: int = 5, received: set[int] | None = None, present: bool = True, remembers: bool = False, **options: object
) -> Session:
    """Return a session that the broker has welcomed, to go on with the one it has kept."""
    made = Session(Options("me", clean=False, **options), level, received, remembers=remembers)  # type: ignore[arg-type]
    made.receive(encode(Connack(present), level))
    return made


def come(made: Session, *packets: Packet) -> list[Event]:
    return made.receive(b"".join(encode(packet, made.level) for packet in packets))


def owed(made: Session, data: bytes | None = None) -> list[Packet]:
    """Return what the session answers."""
    data = made.replies() if data is None else data
    return [decode(first, body, made.level) for first, body in Framer(1 << 20, made.level).feed(data)]


def message(packet_id: int, qos: int = 2, payload: bytes = b"x", dup: bool = False) -> Publish:
    return Publish("t", payload, qos, dup=dup, packet_id=packet_id)


@LEVELS
@given(st.data())
def test_the_fast_way_reads_what_the_codec_reads(level: int, data: st.DataObject) -> None:
    """A message of a topic that has come before is read without the codec, and is the same."""
    packet = data.draw(every_message(level))
    assert isinstance(packet, Publish)
    packet.properties.pop("topic_alias", None)
    told = Message(
        packet.topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.properties, packet.packet_id
    )
    made = session(level)
    for _ in range(3):
        assert come(made, packet) == [told]
        made.replies()
        if packet.qos == 2:
            come(made, Pubrel(packet.packet_id))
            made.replies()


@LEVELS
@given(st.binary(max_size=12), st.integers(0x30, 0x3F))
def test_the_fast_way_takes_nothing_that_the_codec_refuses(level: int, body: bytes, first: int) -> None:
    """A body that is cut short, or wrong, is refused though its topic is known."""
    for start in (b"", b"\0\1a", b"\0\2ab"):
        data = bytes((first, len(start) + len(body))) + start + body
        fresh, known = session(level), session(level)
        come(known, Publish("a", b""), Publish("ab", b""))
        (expected,), (event,) = fresh.receive(data), known.receive(data)
        assert type(event) is type(expected)
        assert str(event) == str(expected)


def test_topics_without_end_do_not_fill_the_memory() -> None:
    """What is kept to read the next message of a topic fast is bounded, in number and in size."""
    made = session()
    for count in range(3000):
        come(made, Publish(f"t/{count}", b""))
    come(made, Publish("long" * 1000, b""))
    assert len(made.receiving._topics) <= 1024
    assert max(map(len, made.receiving._topics)) < 300


# -- QoS 2


@LEVELS
def test_a_message_of_qos_2_is_told_once(level: int) -> None:
    """It is recorded, told once however often it comes, and completed when the broker lets it go."""
    received: set[int] = set()
    made = session(level, received)
    assert come(made, message(7)) == [Message("t", b"x", 2, packet_id=7)]
    assert (owed(made), received) == ([Pubrec(7)], {7})
    assert come(made, message(7, dup=True)) == []
    assert owed(made) == [Pubrec(7)]
    assert come(made, Pubrel(7)) == []
    assert (owed(made), received) == ([Pubcomp(7)], set())
    assert come(made, message(7, payload=b"new")) == [Message("t", b"new", 2, packet_id=7)]


@LEVELS
def test_a_message_of_an_earlier_connection_is_not_told_again(level: int) -> None:
    """The identifiers of a session that goes on are known; of one that is gone, they mean nothing."""
    received = {7}
    made = session(level, received)
    assert come(made, message(7, dup=True)) == []
    assert owed(made) == [Pubrec(7)]
    made = session(level, received, present=False)
    assert received == set()
    assert len(come(made, message(7))) == 1


@LEVELS
def test_a_release_of_nothing_is_answered(level: int) -> None:
    """PUBREL for an identifier that is not known is completed, in MQTT 5 with the words for it."""
    made = session(level)
    assert come(made, Pubrel(9)) == []
    assert owed(made) == [Pubcomp(9, 0x92 if level == 5 else 0)]


@LEVELS
def test_answers_keep_the_order_of_what_they_answer(level: int) -> None:
    """Answers of one read go out in the order in which the messages came."""
    made = session(level)
    come(made, message(1, 1), message(2, 2), message(3, 1), Pubrel(2), message(5, 2))
    assert owed(made) == [Puback(1), Pubrec(2), Puback(3), Pubcomp(2), Pubrec(5)]
    assert owed(made) == []


@LEVELS
def test_held_messages_wait_for_their_owner(level: int) -> None:
    """With `hold_received` nothing is answered until it is confirmed, and then once, in the order of the confirming."""
    made = session(level, hold_received=True)
    assert len(come(made, message(1, 1), message(2, 2), Publish("t", b"0"))) == 3
    assert come(made, message(2, 2, dup=True)) == []
    assert owed(made) == []
    assert owed(made, made.receiving.confirm([2, 9, 1])) == [Pubrec(2), Puback(1)]
    assert made.receiving.confirm([2, 1]) == b""
    assert come(made, message(2, 2, dup=True)) == []  # the answer was lost, it seems
    assert owed(made) == [Pubrec(2)]
    assert come(made, Pubrel(2)) == []
    assert owed(made) == [Pubcomp(2)]


@LEVELS
def test_what_is_forgotten_waits_for_its_owner_too(level: int) -> None:
    """An owner that keeps identifiers on a disk is told to forget one, and only then the broker may use it again."""
    made = session(level, remembers=True, hold_received=True)
    come(made, message(2))
    made.receiving.confirm([2])
    assert come(made, Pubrel(2)) == [Forgotten(2)]
    assert owed(made) == []
    assert owed(made, made.receiving.confirm([2])) == [Pubcomp(2)]


def test_a_message_that_nobody_was_told_comes_again() -> None:
    """What was read and not told before the end is not taken for known on the next connection."""
    received = {5}
    made = session(received=received)
    events = come(made, message(5, dup=True), message(7), Publish("t", b"", 1, packet_id=8))
    made.untold(events)
    assert received == {5}


def test_nothing_is_taken_after_our_goodbye() -> None:
    """Messages that come after DISCONNECT are not told, so that the broker keeps them."""
    received: set[int] = set()
    made = session(received=received)
    made.disconnect()
    assert come(made, message(1, 1), message(2, 2), Publish("t", b"")) == []
    assert (owed(made), received) == ([], set())


# -- receive maximum


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
def test_the_receive_maximum_is_kept(qos: int, hold: bool) -> None:
    """A broker that begins with more than was allowed without an answer breaks the protocol; up to it, it does not."""
    made = session(receive_maximum=3, hold_received=hold)
    assert len(come(made, *(message(n, qos) for n in (1, 2, 3)), Publish("t", b""))) == 4
    (error,) = come(made, message(4, qos))
    assert isinstance(error, ProtocolError)
    assert error.reason == 0x93


@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_that_loses_count_is_borne(qos: int) -> None:
    """mosquitto 2.0 sends its whole queue once anything is acknowledged; to hang up on it would never end."""
    made = session(receive_maximum=3, hold_received=True)
    come(made, message(1, qos), message(2, qos), message(3, qos))
    assert made.receiving.confirm([1])
    assert len(come(made, *(message(n, qos) for n in range(4, 1000)))) == 996


def test_messages_of_an_earlier_connection_do_not_count() -> None:
    """The receive maximum is counted anew on each connection, whatever identifiers are known from before."""
    made = session(received=set(range(1, 1001)), receive_maximum=2)
    assert len(come(made, message(2001), message(2002))) == 2
    assert come(made, *(Pubrel(n) for n in range(1, 1001))) == []
    assert len(owed(made)) == 1002


# -- topic aliases


def test_an_alias_is_resolved() -> None:
    """A message comes with its topic, and without the alias, which is the engine's own matter."""
    made = session(topic_alias_maximum=2)
    first = Publish("a", b"1", properties={"topic_alias": 2, "content_type": "x"})
    events = come(made, first, Publish("", b"2", properties={"topic_alias": 2}))
    assert events == [Message("a", b"1", properties={"content_type": "x"}), Message("a", b"2")]
    assert come(made, Publish("b", b"3", properties={"topic_alias": 2})) == [Message("b", b"3")]
    assert come(made, Publish("", b"4", 1, packet_id=1, properties={"topic_alias": 2})) == [
        Message("b", b"4", 1, packet_id=1)
    ]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("30 07 0001 61 03 230003", 0x94),  # more than was offered
        ("30 07 0001 61 03 230000", 0x94),  # 0
        ("30 06 0000 03 230001", 0x82),  # before its topic
    ],
)
def test_an_alias_that_cannot_be(wire: str, reason: int) -> None:
    """An alias that was not offered, or stands for nothing yet, is a breach with its own code."""
    (error,) = session(topic_alias_maximum=2).receive(bytes.fromhex(wire))
    assert isinstance(error, ProtocolError)
    assert error.reason == reason
