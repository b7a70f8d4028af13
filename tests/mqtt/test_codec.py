"""The codec and the framer: every packet there and back, the specification's bytes, and ProtocolError for the rest."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import Cursor, binary, text, varint
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
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.mqtt.packet_strategies import every_packet

LEVELS = pytest.mark.parametrize("level", [3, 4, 5])


def parsed(data: bytes, level: int, maximum: int = 1 << 20) -> list[Packet]:
    """Read a byte stream that holds whole packets only."""
    framer = Framer(maximum, level)
    found = [decode(first, body, level) for first, body in framer.feed(data)]
    assert not framer.kept
    return found


@LEVELS
@settings(max_examples=150)
@given(data=st.data())
def test_every_packet_there_and_back(level: int, data: st.DataObject) -> None:
    """What one side says is what the other hears, for every packet with every property."""
    packet = data.draw(every_packet(level))
    assert parsed(encode(packet, level), level) == [packet]


@LEVELS
@settings(max_examples=50)
@given(data=st.data())
def test_any_split_gives_the_same_packets(level: int, data: st.DataObject) -> None:
    """Where the network cuts the stream makes no difference."""
    packets = data.draw(st.lists(every_packet(level), max_size=6))
    stream = b"".join(encode(packet, level) for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = Framer(1 << 20, level)
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += [decode(first, body, level) for first, body in framer.feed(stream[start:stop])]
    assert found == packets
    bytewise = Framer(1 << 20, level)
    one_by_one = [frame for byte in stream for frame in bytewise.feed(bytes((byte,)))]
    assert [decode(first, body, level) for first, body in one_by_one] == packets


# Bytes written down by hand from the specifications.
GOLDEN: list[tuple[int, Packet, str]] = [
    (4, Connect(4, "A", True, 60), "10 0d 0004 4d515454 04 02 003c 0001 41"),
    (3, Connect(3, "A", False, 10), "10 0f 0006 4d5149736470 03 00 000a 0001 41"),
    (5, Connect(5, "", True, 0, "u", b"p"), "10 13 0004 4d515454 05 c2 0000 00 0000 0001 75 0001 70"),
    (
        4,
        Connect(4, "A", True, 60, will=Will("w", b"gone", 1, True)),
        "10 16 0004 4d515454 04 2e 003c 0001 41 0001 77 0004 676f6e65",
    ),
    (4, Connack(True, 0), "20 02 01 00"),
    (5, Connack(False, 0, {"receive_maximum": 10, "maximum_qos": 1}), "20 08 00 00 05 21 000a 24 01"),
    (5, Connack(False, 1), "20 02 00 01"),  # the answer of a broker that knows 3.1.1 only, without properties
    (4, Publish("a/b", b"hi", 1, False, False, 10), "32 09 0003 612f62 000a 6869"),
    (5, Publish("a/b", b"hi", 0, True), "31 08 0003 612f62 00 6869"),
    (5, Publish("a/b", b"", 2, False, True, 1), "3c 08 0003 612f62 0001 00"),
    (4, Puback(0x1234), "40 02 1234"),
    (5, Puback(1, 0x10), "40 03 0001 10"),
    (5, Puback(1, 0x97, {"reason_string": "x"}), "40 08 0001 97 04 1f 0001 78"),
    (4, Pubrec(1), "50 02 0001"),
    (4, Pubrel(1), "62 02 0001"),
    (5, Pubcomp(1, 0x92), "70 03 0001 92"),
    (4, Subscribe(10, (Subscription("a/b", 1), Subscription("c/d", 2))), "82 0e 000a 0003 612f62 01 0003 632f64 02"),
    (5, Subscribe(1, (Subscription("#", 1, True, True, 2),)), "82 07 0001 00 0001 23 2d"),
    (4, Suback(1, (0, 2, 0x80)), "90 05 0001 00 02 80"),
    (4, Unsubscribe(1, ("a",)), "a2 05 0001 0001 61"),
    (4, Unsuback(1), "b0 02 0001"),
    (5, Unsuback(1, (0x11,)), "b0 04 0001 00 11"),
    (4, Pingreq(), "c0 00"),
    (4, Pingresp(), "d0 00"),
    (4, Disconnect(), "e0 00"),
    (5, Disconnect(0x8B), "e0 01 8b"),
    (5, Auth(0x18, {"authentication_method": "m"}), "f0 06 18 04 15 0001 6d"),
]


@pytest.mark.parametrize(("level", "packet", "wire"), GOLDEN)
def test_the_bytes_of_the_specification(level: int, packet: Packet, wire: str) -> None:
    """A packet has exactly the bytes that the specification gives it."""
    data = bytes.fromhex(wire)
    assert parsed(data, level) == [packet]
    if wire != "20 02 00 01":
        assert encode(packet, level) == data


WRONG: list[tuple[int, str, int]] = [
    (4, "00 00", 0x81),  # a type that does not exist
    (4, "36 07 0001 61 0001 6869", 0x81),  # QoS 3
    (4, "38 05 0001 61 6869", 0x81),  # DUP at QoS 0
    (4, "60 02 0001", 0x81),  # PUBREL without its flags
    (4, "41 02 0001", 0x81),  # PUBACK with flags
    (4, "f0 00", 0x81),  # AUTH before MQTT 5
    (4, "40 03 0001 00", 0x81),  # a byte too many
    (4, "40 01 00", 0x81),  # a byte too few
    (4, "40 02 0000", 0x82),  # packet identifier 0
    (4, "32 03 0001 61", 0x81),  # no packet identifier
    (4, "30 80 80 80 80 01", 0x81),  # a length of five bytes
    (4, "c0 80 00", 0x81),  # a length in more bytes than it needs
    (4, "30 03 0001 ff", 0x81),  # not UTF-8
    (4, "30 05 0003 eda080", 0x81),  # a lone surrogate
    (4, "30 05 0003 610062", 0x81),  # NUL
    (4, "30 04 0002 612b", 0x90),  # a wildcard in a topic
    (4, "30 02 0000", 0x82),  # no topic
    (5, "30 03 0000 00", 0x82),  # no topic, and no alias either
    (4, "20 02 02 00", 0x81),  # CONNACK flags
    (4, "20 02 01 05", 0x81),  # a session, but refused
    (5, "20 02 00 00", 0x81),  # welcome without properties
    (5, "30 06 0001 61 02 7f00", 0x81),  # a property that does not exist
    (5, "30 07 0001 61 03 210001", 0x82),  # a property of another packet
    (5, "30 08 0001 61 04 01000100", 0x82),  # a property twice
    (5, "30 06 0001 61 02 0102", 0x82),  # a flag that is 2
    (5, "20 06 00 00 03 21 0000", 0x82),  # receive maximum 0
    (5, "30 05 0001 61 05 01", 0x81),  # properties longer than the packet
    (5, "20 08 00 00 05 16 0002 6162", 0x82),  # authentication data without a method
    (4, "82 02 0001", 0x82),  # SUBSCRIBE to nothing
    (4, "82 06 0001 0001 61 03", 0x81),  # SUBSCRIBE at QoS 3
    (4, "82 06 0001 0001 61 04", 0x81),  # options of MQTT 5
    (4, "a2 02 0001", 0x82),  # UNSUBSCRIBE from nothing
    (4, "90 03 0001 03", 0x81),  # granted QoS 3
    (5, "90 03 0001 00", 0x81),  # no code at all
    (5, "b0 03 0001 00", 0x81),  # no reason at all
    (4, "10 0d 0004 4d515454 04 03 003c 0001 41", 0x81),  # CONNECT's reserved flag
    (4, "10 0d 0004 4d515454 04 22 003c 0001 41", 0x81),  # will retain without a will
    (4, "10 0d 0004 4d515454 06 02 003c 0001 41", 0x84),  # level 6
    (4, "10 0d 0004 4d515455 04 02 003c 0001 41", 0x84),  # another protocol
    (4, "10 0f 0006 4d5149736470 04 00 000a 0001 41", 0x84),  # the old name with the new level
    (5, "e0 02 00 01", 0x81),  # properties that are not there
]


@pytest.mark.parametrize(("level", "wire", "reason"), WRONG)
def test_what_mqtt_does_not_allow_is_refused_with_its_code(level: int, wire: str, reason: int) -> None:
    """A breach of the protocol is told as such, with the reason code that MQTT 5 has for it."""
    with pytest.raises(ProtocolError) as caught:
        parsed(bytes.fromhex(wire), level)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("level", "packet"),
    [
        (4, Publish("a", b"", 1)),
        (4, Publish("a", b"", 3, packet_id=1)),
        (4, Publish("a", b"", 0, dup=True)),
        (4, Publish("a\0", b"")),
        (4, Publish("\ud800", b"")),
        (4, Publish("a" * 65_536, b"")),
        (4, Publish("a", b"", properties={"content_type": "text"})),
        (5, Publish("a", b"", properties={"receive_maximum": 1})),
        (5, Publish("a", b"", properties={"topic_alias": 0})),
        (5, Publish("a", b"", properties={"message_expiry_interval": 1 << 32})),
        (5, Subscribe(1, (Subscription("a"),), {"subscription_identifiers": [1, 2]})),
        (4, Subscribe(1, (Subscription("a", no_local=True),))),
        (4, Subscribe(1, (Subscription(""),))),
        (4, Puback(0)),
        (4, Puback(65_536)),
        (4, Puback(1, 0x80)),
        (4, Unsuback(1, (0,))),
        (4, Auth()),
        (4, Connect(5, "a")),
        (4, Connect(4, "a", keep_alive=65_536)),
        (4, Connect(4, "a", will=Will("a", b"", 3))),
    ],
)
def test_what_mqtt_cannot_say_is_a_value_error(level: int, packet: Packet) -> None:
    """A packet that no broker would take is never written."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are as many as the cases
        encode(packet, level)


def test_a_password_without_a_user_name_gets_an_empty_one_before_mqtt_5() -> None:
    """MQTT 3.1.1 has no password without a user name; an empty name says the same."""
    (packet,) = parsed(encode(Connect(4, "a", password=b"p"), 4), 4)
    assert isinstance(packet, Connect)
    assert (packet.username, packet.password) == ("", b"p")


@given(st.integers(0, 268_435_455))
def test_lengths_there_and_back(value: int) -> None:
    """A variable byte integer is written in the fewest bytes, and read again."""
    data = varint(value)
    assert Cursor(data).varint() == value
    assert len(data) == 1 + (value >= 1 << 7) + (value >= 1 << 14) + (value >= 1 << 21)


def test_what_is_too_long_for_a_field_is_a_value_error() -> None:
    """No length is ever cut to fit its field."""
    assert len(binary(bytes(65_535))) == len(text("a" * 65_535)) == 65_537
    for attempt in (lambda: binary(bytes(65_536)), lambda: text("ä" * 32_768), lambda: varint(268_435_456)):
        with pytest.raises(ValueError, match="bytes"):
            attempt()


@pytest.mark.parametrize("wire", ["30 ff ff ff 7f", "30 ff ff 03", "32 a1 1f"])
def test_a_packet_that_is_too_large_is_refused_from_its_header(wire: str) -> None:
    """A packet above the maximum is never buffered: its header is enough to refuse it."""
    framer = Framer(4000)
    with pytest.raises(ProtocolError, match="4000") as caught:
        list(framer.feed(bytes.fromhex(wire)))
    assert caught.value.reason == 0x95
    assert framer.kept == 0


def test_the_maximum_itself_is_taken() -> None:
    """The largest packet that is allowed is allowed."""
    data = encode(Publish("a", bytes(3000)), 4)
    assert len(parsed(data, 4, len(data))) == 1
    with pytest.raises(ProtocolError):
        parsed(data, 4, len(data) - 1)


def test_a_large_packet_in_small_chunks_costs_linear_time() -> None:
    """A broker that sends byte by byte does not make us copy everything for each byte."""
    data = encode(Publish("a", bytes(1 << 20)), 4)
    framer = Framer(1 << 21)
    began = time.process_time()
    frames = []
    for byte in data:
        frames += framer.feed(bytes((byte,)))
        assert time.process_time() - began < 15, "half a million megabytes were copied"
    assert [len(body) for _, body in frames] == [3 + (1 << 20)]


SEEDS = [(level, bytes.fromhex(wire)) for level, _, wire in GOLDEN]


def test_100_000_mutated_packets_raise_nothing_but_protocol_errors() -> None:
    """Whatever comes, it is a packet or a ProtocolError, and no memory stays behind."""
    dice = random.Random(20)
    outcomes = {"packet": 0, "refused": 0, "incomplete": 0}
    tracemalloc.start()
    try:
        for count in range(100_000):
            if count == 10_000:
                early = tracemalloc.get_traced_memory()[0]
            level, seed = dice.choice(SEEDS)
            outcomes[_outcome(_mutated(dice, seed), dice.choice((level, 4, 5)))] += 1
        assert tracemalloc.get_traced_memory()[0] - early < 100_000
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 5_000, f"the mutations miss a part of the decoder: {outcomes}"


def _mutated(dice: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data)) if data else 0
        match dice.randrange(5):
            case 0 if data:
                data[at] ^= 1 << dice.randrange(8)
            case 1 if data:
                data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                data.insert(at, dice.randrange(256))
            case 3 if data:
                del data[at]
            case _:
                other = dice.choice(SEEDS)[1]
                data[at:at] = other[: dice.randrange(len(other))]
    if dice.random() < 0.5 and 2 <= len(data) < 130:
        data[1] = len(data) - 2  # so that the mutation is reached and not only the length
    return bytes(data)


def _outcome(data: bytes, level: int) -> str:
    framer = Framer(1 << 16, level)
    try:
        found = [decode(first, body, level) for first, body in framer.feed(data)]
    except ProtocolError:
        return "refused"
    assert framer.kept <= len(data)
    return "packet" if found else "incomplete"
