"""The codec and the framer: every packet there and back, the specification's bytes, and ProtocolError for the rest."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import Cursor, binary, text, varint
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import (
    Auth,
    Connect,
    Packet,
    Puback,
    Publish,
    Subscribe,
    Subscription,
    Unsuback,
    Will,
)
from tests.mqtt import fuzz
from tests.mqtt.golden import GOLDEN
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


def test_100_000_mutated_packets_raise_nothing_but_protocol_errors() -> None:
    """Whatever comes, it is a packet, an event or a ProtocolError, and no memory stays behind."""
    outcomes = fuzz.run(100_000, seed=20)
    assert min(outcomes.values()) > 4_000, f"the mutations miss a part: {outcomes}"
    assert set(outcomes) == {"packet", "refused", "incomplete", "told", "silent", "broken"}
