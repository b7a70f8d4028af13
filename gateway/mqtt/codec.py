"""Packets to bytes and back: MQTT 3.1 (level 3), 3.1.1 (4) and 5.0 (5), chapters 2 and 3 of their specifications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.mqtt import properties as types
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import Cursor, binary, text, varint
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
from gateway.mqtt.properties import Properties, decode_properties, encode_properties
from gateway.mqtt.reasons import PROTOCOL_ERROR, TOPIC_INVALID, UNSUPPORTED_VERSION

PROTOCOLS = {3: b"\x00\x06MQIsdp\x03", 4: b"\x00\x04MQTT\x04", 5: b"\x00\x04MQTT\x05"}

_TYPE: dict[type, int] = {
    Connect: types.CONNECT,
    Connack: types.CONNACK,
    Publish: types.PUBLISH,
    Puback: types.PUBACK,
    Pubrec: types.PUBREC,
    Pubrel: types.PUBREL,
    Pubcomp: types.PUBCOMP,
    Subscribe: types.SUBSCRIBE,
    Suback: types.SUBACK,
    Unsubscribe: types.UNSUBSCRIBE,
    Unsuback: types.UNSUBACK,
    Pingreq: types.PINGREQ,
    Pingresp: types.PINGRESP,
    Disconnect: types.DISCONNECT,
    Auth: types.AUTH,
}
# The lower half of the first byte, where it is not 0 (section 2.1.3).
_FLAGS = {types.PUBREL: 2, types.SUBSCRIBE: 2, types.UNSUBSCRIBE: 2}
# First bytes that may stand at the start of a packet of MQTT 3.1.1 and 5; AUTH is told apart by its decoder.
FIRST_BYTES = frozenset(kind << 4 | _FLAGS.get(kind, 0) for kind in range(1, 16) if kind != types.PUBLISH) | frozenset(
    0x30 | dup << 3 | qos << 1 | retain for qos in range(3) for dup in (0, 1) for retain in (0, 1) if qos or not dup
)
# MQTT 3.1 marks what is sent again with DUP in these packets as well (its section 2.1).
FIRST_BYTES_31 = FIRST_BYTES | {0x6A, 0x8A, 0xAA}


def encode(packet: Packet, level: int) -> bytes:
    """Return the packet on the wire at this protocol level. Raises ValueError for what MQTT cannot say."""
    kind = _TYPE[type(packet)]
    flags = _FLAGS.get(kind, 0)
    match packet:
        case Publish():
            if (
                packet.qos not in (0, 1, 2)
                or bool(packet.qos) != bool(packet.packet_id)
                or (packet.dup and not packet.qos)
            ):
                raise ValueError(
                    f"no such PUBLISH: QoS {packet.qos}, packet identifier {packet.packet_id}, dup {packet.dup}"
                )
            flags = packet.dup << 3 | packet.qos << 1 | packet.retain
            body = text(packet.topic) + (_id(packet.packet_id) if packet.qos else b"")
            body += _properties(packet.properties, kind, level) + packet.payload
        case Puback() | Pubrec() | Pubrel() | Pubcomp():
            body = _id(packet.packet_id) + _reason(packet.reason, packet.properties, kind, level)
        case Connect():
            if packet.level != level:
                raise ValueError(f"a CONNECT of level {packet.level} cannot be written at level {level}")
            body = _write_connect(packet)
        case Connack():
            body = bytes((packet.session_present, packet.reason)) + _properties(packet.properties, kind, level)
        case Subscribe():
            body = _id(packet.packet_id) + _properties(packet.properties, kind, level)
            body += b"".join(_write_subscription(one, level) for one in packet.subscriptions)
        case Unsubscribe():
            body = _id(packet.packet_id) + _properties(packet.properties, kind, level)
            body += b"".join(text(one) for one in packet.filters)
        case Suback() | Unsuback():
            if level < 5 and isinstance(packet, Unsuback) and packet.reasons:
                raise ValueError("UNSUBACK has no reasons before MQTT 5")
            body = _id(packet.packet_id) + _properties(packet.properties, kind, level) + bytes(packet.reasons)
        case Disconnect() | Auth():
            if level < 5 and isinstance(packet, Auth):
                raise ValueError("there is no AUTH before MQTT 5")
            body = _reason(packet.reason, packet.properties, kind, level)
        case Pingreq() | Pingresp():
            body = b""
    return bytes((kind << 4 | flags,)) + varint(len(body)) + body


def decode(first: int, body: bytes, level: int) -> Packet:
    """Return the packet with this first byte and body at this protocol level; CONNECT brings its own.

    Raises ProtocolError for everything else.
    """
    if first not in (FIRST_BYTES_31 if level == 3 else FIRST_BYTES):
        raise ProtocolError(f"no packet begins with 0x{first:02X}")
    kind = first >> 4
    cursor = Cursor(body)
    packet = _read_publish(first & 15, cursor, level) if kind == types.PUBLISH else _READERS[kind](cursor, level)
    cursor.end()
    return packet


def _id(packet_id: int) -> bytes:
    if not 0 < packet_id <= 0xFFFF:
        raise ValueError(f"{packet_id} is no packet identifier")
    return packet_id.to_bytes(2, "big")


def _properties(properties: Properties, kind: int, level: int) -> bytes:
    if level >= 5:
        return encode_properties(properties, kind)
    if properties:
        raise ValueError("there are no properties before MQTT 5")
    return b""


def _reason(reason: int, properties: Properties, kind: int, level: int) -> bytes:
    # Success without properties may be left out, and properties alone too (section 3.4.2.1).
    if properties:
        return bytes((reason,)) + _properties(properties, kind, level)
    if reason and level < 5:
        raise ValueError("there are no reason codes in this packet before MQTT 5")
    return bytes((reason,)) if reason else b""


def _write_connect(packet: Connect) -> bytes:
    level, will, username = packet.level, packet.will, packet.username
    if level < 5 and packet.password is not None and username is None:
        username = ""  # a password without a user name exists in MQTT 5 only (3.1.1, section 3.1.2.9)
    flags = packet.clean << 1 | (packet.password is not None) << 6 | (username is not None) << 7
    if not 0 <= packet.keep_alive <= 0xFFFF:
        raise ValueError(f"a keep-alive of {packet.keep_alive} s is longer than MQTT's 65535")
    if will:
        if will.qos not in (0, 1, 2):
            raise ValueError(f"no QoS {will.qos} for a will")
        flags |= 4 | will.qos << 3 | will.retain << 5
    body = PROTOCOLS[level] + bytes((flags,)) + packet.keep_alive.to_bytes(2, "big")
    body += _properties(packet.properties, types.CONNECT, level) + text(packet.client_id)
    if will:
        body += _properties(will.properties, types.WILL, level) + text(will.topic) + binary(will.payload)
    if username is not None:
        body += text(username)
    if packet.password is not None:
        body += binary(packet.password)
    return body


def _write_subscription(one: Subscription, level: int) -> bytes:
    options = one.qos | one.no_local << 2 | one.retain_as_published << 3 | one.retain_handling << 4
    if (
        one.qos not in (0, 1, 2)
        or one.retain_handling not in (0, 1, 2)
        or not one.filter
        or (level < 5 and options > 2)
    ):
        raise ValueError(f"MQTT level {level} has no such subscription: {one}")
    return text(one.filter) + bytes((options,))


def _read_properties(cursor: Cursor, kind: int, level: int) -> Properties:
    return decode_properties(cursor, kind) if level >= 5 else Properties()


def _read_reason(cursor: Cursor, kind: int, level: int) -> tuple[int, Properties]:
    if level < 5 or not cursor.left:
        return 0, Properties()
    reason = cursor.byte()
    return reason, decode_properties(cursor, kind) if cursor.left else Properties()


def _topic(cursor: Cursor) -> str:
    topic = cursor.text()
    if "+" in topic or "#" in topic:
        raise ProtocolError("a wildcard in the topic of a message", reason=TOPIC_INVALID)
    return topic


def _read_publish(flags: int, cursor: Cursor, level: int) -> Publish:
    qos = flags >> 1 & 3
    topic = _topic(cursor)
    packet_id = cursor.packet_id() if qos else 0
    properties = _read_properties(cursor, types.PUBLISH, level)
    if not topic and "topic_alias" not in properties:
        raise ProtocolError("a message without a topic", reason=PROTOCOL_ERROR)
    return Publish(topic, cursor.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id, properties)


def _read_connect(cursor: Cursor, _: int) -> Connect:
    name, level = cursor.text(), cursor.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise ProtocolError("CONNECT of another protocol", reason=UNSUPPORTED_VERSION)
    if PROTOCOLS.get(level) != text(name) + bytes((level,)):
        raise ProtocolError(f"CONNECT of protocol level {level}", reason=UNSUPPORTED_VERSION)
    flags, keep_alive = cursor.byte(), cursor.u16()
    will_qos = flags >> 3 & 3
    if flags & 1 or will_qos == 3 or (not flags & 4 and flags & 0x38) or (level < 5 and flags & 0xC0 == 0x40):
        raise ProtocolError(f"CONNECT with the flags 0x{flags:02X}")
    properties = _read_properties(cursor, types.CONNECT, level)
    client_id = cursor.text()
    will = None
    if flags & 4:
        will_properties = _read_properties(cursor, types.WILL, level)
        topic = _topic(cursor)
        if not topic:
            raise ProtocolError("a will without a topic", reason=TOPIC_INVALID)
        will = Will(topic, cursor.binary(), will_qos, bool(flags & 0x20), will_properties)
    username = cursor.text() if flags & 0x80 else None
    password = cursor.binary() if flags & 0x40 else None
    return Connect(level, client_id, bool(flags & 2), keep_alive, username, password, will, properties)


def _read_connack(cursor: Cursor, level: int) -> Connack:
    flags, reason = cursor.byte(), cursor.byte()
    if level == 3:
        flags = 0  # reserved and not used there
    if flags > 1 or (flags and reason):
        raise ProtocolError(f"CONNACK with the flags 0x{flags:02X} and the reason 0x{reason:02X}")
    # A broker that does not know MQTT 5 refuses it in its own version, in which nothing follows.
    properties = Properties() if reason and not cursor.left else _read_properties(cursor, types.CONNACK, level)
    return Connack(bool(flags), reason, properties)


def _answer_reader(packet: type[Puback | Pubrec | Pubrel | Pubcomp]) -> Callable[[Cursor, int], Packet]:
    def read(cursor: Cursor, level: int) -> Packet:
        packet_id = cursor.packet_id()
        return packet(packet_id, *_read_reason(cursor, _TYPE[packet], level))

    return read


def _read_subscribe(cursor: Cursor, level: int) -> Subscribe:
    packet_id = cursor.packet_id()
    properties = _read_properties(cursor, types.SUBSCRIBE, level)
    subscriptions = []
    while cursor.left:
        wanted, options = cursor.text(), cursor.byte()
        qos, handling = options & 3, options >> 4
        if qos == 3 or handling > 2 or not wanted or (level < 5 and options > 2):
            raise ProtocolError(f"SUBSCRIBE with the options 0x{options:02X}")
        subscriptions.append(Subscription(wanted, qos, bool(options & 4), bool(options & 8), handling))
    if not subscriptions:
        raise ProtocolError("SUBSCRIBE to nothing", reason=PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(subscriptions), properties)


def _read_unsubscribe(cursor: Cursor, level: int) -> Unsubscribe:
    packet_id = cursor.packet_id()
    properties = _read_properties(cursor, types.UNSUBSCRIBE, level)
    filters = []
    while cursor.left:
        filters.append(cursor.text())
    if not all(filters) or not filters:
        raise ProtocolError("UNSUBSCRIBE from nothing", reason=PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters), properties)


def _read_suback(cursor: Cursor, level: int) -> Suback:
    packet_id = cursor.packet_id()
    properties = _read_properties(cursor, types.SUBACK, level)
    reasons = tuple(cursor.rest())
    if not reasons or (level < 5 and not {0, 1, 2, 0x80}.issuperset(reasons)):
        raise ProtocolError("SUBACK without a valid return code")
    return Suback(packet_id, reasons, properties)


def _read_unsuback(cursor: Cursor, level: int) -> Unsuback:
    packet_id = cursor.packet_id()
    properties = _read_properties(cursor, types.UNSUBACK, level)
    reasons = tuple(cursor.rest()) if level >= 5 else ()
    if level >= 5 and not reasons:
        raise ProtocolError("UNSUBACK without a reason")
    return Unsuback(packet_id, reasons, properties)


def _read_disconnect(cursor: Cursor, level: int) -> Disconnect:
    return Disconnect(*_read_reason(cursor, types.DISCONNECT, level))


def _read_auth(cursor: Cursor, level: int) -> Auth:
    if level < 5:
        raise ProtocolError("AUTH before MQTT 5")
    return Auth(*_read_reason(cursor, types.AUTH, level))


_READERS: dict[int, Callable[[Cursor, int], Any]] = {
    types.CONNECT: _read_connect,
    types.CONNACK: _read_connack,
    types.PUBACK: _answer_reader(Puback),
    types.PUBREC: _answer_reader(Pubrec),
    types.PUBREL: _answer_reader(Pubrel),
    types.PUBCOMP: _answer_reader(Pubcomp),
    types.SUBSCRIBE: _read_subscribe,
    types.SUBACK: _read_suback,
    types.UNSUBSCRIBE: _read_unsubscribe,
    types.UNSUBACK: _read_unsuback,
    types.PINGREQ: lambda cursor, level: Pingreq(),
    types.PINGRESP: lambda cursor, level: Pingresp(),
    types.DISCONNECT: _read_disconnect,
    types.AUTH: _read_auth,
}
