"""The properties of MQTT 5.0 packets (section 2.2.2): one table gives name, identifier, form and place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict, cast

from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import Cursor, binary, text, varint
from gateway.mqtt.reasons import ALIAS_INVALID, PROTOCOL_ERROR

# Packet types, as in the upper half of a packet's first byte; 0 stands for the will inside CONNECT.
WILL, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)


class Properties(TypedDict, total=False):
    """The properties of one packet, or of a will. Intervals are seconds, sizes bytes."""

    payload_format_indicator: int
    message_expiry_interval: int
    content_type: str
    response_topic: str
    correlation_data: bytes
    subscription_identifiers: list[int]
    session_expiry_interval: int
    assigned_client_identifier: str
    server_keep_alive: int
    authentication_method: str
    authentication_data: bytes
    request_problem_information: int
    will_delay_interval: int
    request_response_information: int
    response_information: str
    server_reference: str
    reason_string: str
    receive_maximum: int
    topic_alias_maximum: int
    topic_alias: int
    maximum_qos: int
    retain_available: int
    user_properties: list[tuple[str, str]]
    maximum_packet_size: int
    wildcard_subscription_available: int
    subscription_identifier_available: int
    shared_subscription_available: int


class Form(NamedTuple):
    """How a kind of property is written and read, and which values are allowed."""

    write: Callable[[Any], bytes]
    read: Callable[[Cursor], Any]
    allowed: Callable[[Any], bool] = lambda value: True
    repeats: bool = False


class Property(NamedTuple):
    """One row of the table: identifier, name in `Properties`, form, and the packets in which it may stand."""

    identifier: int
    name: str
    form: Form
    places: frozenset[int]


def _write_pair(pair: tuple[str, str]) -> bytes:
    return text(pair[0]) + text(pair[1])


def _read_pair(cursor: Cursor) -> tuple[str, str]:
    return cursor.text(), cursor.text()


FLAG = Form(lambda value: bytes((value,)), Cursor.byte, lambda value: value in (0, 1))
U16 = Form(lambda value: value.to_bytes(2, "big"), Cursor.u16, lambda value: 0 <= value <= 0xFFFF)
U16_NOT_0 = U16._replace(allowed=lambda value: 0 < value <= 0xFFFF)
U32 = Form(lambda value: value.to_bytes(4, "big"), Cursor.u32, lambda value: 0 <= value <= 0xFFFF_FFFF)
U32_NOT_0 = U32._replace(allowed=lambda value: 0 < value <= 0xFFFF_FFFF)
VARINTS = Form(varint, Cursor.varint, lambda value: value > 0, repeats=True)
BINARY = Form(binary, Cursor.binary)
TEXT = Form(text, Cursor.text)
PAIRS = Form(_write_pair, _read_pair, repeats=True)

_MESSAGE = frozenset({PUBLISH, WILL})
_ANSWERS = frozenset({CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH})
_NEARLY_ALL = frozenset(range(16)) - {PINGREQ, PINGRESP}
_LIMITS = frozenset({CONNECT, CONNACK})
_LOGIN = frozenset({CONNECT, CONNACK, AUTH})
_CONNACK = frozenset({CONNACK})

TABLE = (
    Property(1, "payload_format_indicator", FLAG, _MESSAGE),
    Property(2, "message_expiry_interval", U32, _MESSAGE),
    Property(3, "content_type", TEXT, _MESSAGE),
    Property(8, "response_topic", TEXT, _MESSAGE),
    Property(9, "correlation_data", BINARY, _MESSAGE),
    Property(11, "subscription_identifiers", VARINTS, frozenset({PUBLISH, SUBSCRIBE})),
    Property(17, "session_expiry_interval", U32, frozenset({CONNECT, CONNACK, DISCONNECT})),
    Property(18, "assigned_client_identifier", TEXT, _CONNACK),
    Property(19, "server_keep_alive", U16, _CONNACK),
    Property(21, "authentication_method", TEXT, _LOGIN),
    Property(22, "authentication_data", BINARY, _LOGIN),
    Property(23, "request_problem_information", FLAG, frozenset({CONNECT})),
    Property(24, "will_delay_interval", U32, frozenset({WILL})),
    Property(25, "request_response_information", FLAG, frozenset({CONNECT})),
    Property(26, "response_information", TEXT, _CONNACK),
    Property(28, "server_reference", TEXT, frozenset({CONNACK, DISCONNECT})),
    Property(31, "reason_string", TEXT, _ANSWERS),
    Property(33, "receive_maximum", U16_NOT_0, _LIMITS),
    Property(34, "topic_alias_maximum", U16, _LIMITS),
    Property(35, "topic_alias", U16_NOT_0, frozenset({PUBLISH})),
    Property(36, "maximum_qos", FLAG, _CONNACK),
    Property(37, "retain_available", FLAG, _CONNACK),
    Property(38, "user_properties", PAIRS, _NEARLY_ALL),
    Property(39, "maximum_packet_size", U32_NOT_0, _LIMITS),
    Property(40, "wildcard_subscription_available", FLAG, _CONNACK),
    Property(41, "subscription_identifier_available", FLAG, _CONNACK),
    Property(42, "shared_subscription_available", FLAG, _CONNACK),
)
_BY_IDENTIFIER = {row.identifier: row for row in TABLE}
_BY_NAME = {row.name: row for row in TABLE}


def encode_properties(properties: Properties, place: int) -> bytes:
    """Encode the properties of a packet of type `place`, with their length.

    Raises ValueError for one that may not stand there, or not with this value.
    """
    encoded = joined_properties(properties, place)
    return varint(len(encoded)) + encoded


def joined_properties(properties: Properties, place: int) -> bytes:
    """Encode the properties of a packet of type `place` without their length. Raises ValueError as above."""
    encoded = bytearray()
    for name, value in properties.items():
        row = _BY_NAME.get(name)
        if row is None or place not in row.places:
            raise ValueError(f"MQTT 5 has no property {name} in packet type {place}")
        values = cast("list[Any]", value) if row.form.repeats else [value]
        if place == SUBSCRIBE and row.form is VARINTS and len(values) > 1:
            raise ValueError("SUBSCRIBE takes one subscription identifier")
        for one in values:
            if not row.form.allowed(one):
                raise ValueError(f"{one!r} is no value for the property {name}")
            encoded.append(row.identifier)
            encoded += row.form.write(one)
    return bytes(encoded)


def decode_properties(cursor: Cursor, place: int) -> Properties:
    """Read the properties of a packet of type `place`.

    Raises ProtocolError for one that is unknown, misplaced, repeated or wrong.
    """
    length = cursor.varint()
    found: dict[str, Any] = {}
    if length:
        inner = Cursor(cursor.take(length))
        while inner.left:
            _decode_one(inner, place, found)
        if "authentication_data" in found and "authentication_method" not in found:
            raise ProtocolError("authentication data without a method", reason=PROTOCOL_ERROR)
    return cast("Properties", found)


def _decode_one(cursor: Cursor, place: int, found: dict[str, Any]) -> None:
    identifier = cursor.varint()
    row = _BY_IDENTIFIER.get(identifier)
    if row is None:
        raise ProtocolError(f"unknown property 0x{identifier:02X}")
    if place not in row.places:
        raise ProtocolError(f"property {row.name} in a packet of type {place}", reason=PROTOCOL_ERROR)
    value = row.form.read(cursor)
    if not row.form.allowed(value):
        reason = ALIAS_INVALID if row.name == "topic_alias" else PROTOCOL_ERROR
        raise ProtocolError(f"property {row.name} with the value {value!r}", reason=reason)
    if row.form.repeats and not (place == SUBSCRIBE and row.name in found and row.form is VARINTS):
        found.setdefault(row.name, []).append(value)
    elif row.name in found:
        raise ProtocolError(f"property {row.name} twice", reason=PROTOCOL_ERROR)
    else:
        found[row.name] = value
