"""One MQTT session without any I/O: bytes in, events out; what to send is returned as bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import unpack
from typing import NamedTuple, TypeAlias

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import LARGEST_VARINT, LONGEST_FIELD, varint
from gateway.mqtt.framing import Framer
from gateway.mqtt.inflight import InFlight
from gateway.mqtt.listener import Message
from gateway.mqtt.options import Limits, Options
from gateway.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import ALIAS_INVALID, PROTOCOL_ERROR, QOS_UNSUPPORTED

PINGREQ = b"\xc0\x00"
_PUBACK = 0x40
_CACHED = 4096  # topics and packet headers that are kept ready

Batch: TypeAlias = Sequence[tuple[bytes, bytes, int]]  # topic in UTF-8, payload, token


class Acknowledged(NamedTuple):
    """The broker has the messages with these tokens."""

    tokens: list[int]


class Refused(NamedTuple):
    """The broker will not take the message with this token."""

    token: int
    reason: int


# A ProtocolError is always the last event: nothing is read after it.
Event: TypeAlias = Acknowledged | Refused | Connack | Message | Suback | Pingresp | Disconnect | ProtocolError


class Session:
    """The client's side of one connection at one protocol level, from CONNECT to the end."""

    def __init__(self, options: Options, level: int) -> None:
        self.level = level
        self.limits = Limits(client_id=options.client_id)
        self.in_flight = InFlight(grain=min(0.1, options.ack_timeout / 10))
        self.window = 0  # until CONNACK
        self._options = options
        self._framer = Framer(options.maximum_packet_size, level)
        self._most = LARGEST_VARINT - 2 - self._after_topic(1)  # topic and payload together, in bytes
        self._welcome = False
        self._failed = False
        self._replies: list[bytes] = []
        self._asked: set[int] = set()  # identifiers of SUBSCRIBEs without an answer
        self._topics: dict[bytes, bytes] = {}
        self._headers: dict[int, dict[int, bytes]] = {}

    # -- what to send

    def connect(self) -> bytes:
        """Return CONNECT."""
        options = self._options
        keep_alive = min(math.ceil(options.keep_alive), 0xFFFF)
        properties = Properties()
        if self.level >= 5:
            properties["maximum_packet_size"] = options.maximum_packet_size
            if options.session_expiry:
                properties["session_expiry_interval"] = options.session_expiry
        packet = Connect(
            level=self.level,
            client_id=options.client_id,
            clean=options.clean,
            keep_alive=keep_alive,
            username=options.username,
            password=options.password,
            will=options.will,
            properties=properties,
        )
        return encode(packet, self.level)

    def publish(self, batch: Batch, qos: int, retain: bool, now: float) -> bytes:
        """Return the PUBLISH packets of a batch, sent at `now`.

        Raises ValueError for what MQTT cannot carry, and then takes none of them.
        """
        first = 0x30 | qos << 1 | retain
        after = self._after_topic(qos)
        headers = self._headers.setdefault(first, {})
        fields = self._topics
        parts: list[bytes] = []
        if not qos:
            none = bytes(after)
            for topic, payload, _ in batch:
                field = fields.get(topic) or self._topic(topic)
                size = len(field) + after + len(payload)
                parts += (headers.get(size) or self._header(first, size), field, none, payload)
            return b"".join(parts)
        if qos != 1:
            raise ValueError(f"QoS {qos} is not supported yet")
        identifiers = self.in_flight.identifiers(len(batch))
        # In MQTT 5 the empty properties follow the identifier: one more byte, 0.
        shift = 8 * (after - 2)
        for identifier, (topic, payload, _) in zip(identifiers, batch, strict=True):
            field = fields.get(topic) or self._topic(topic)
            size = len(field) + after + len(payload)
            parts += (
                headers.get(size) or self._header(first, size),
                field,
                (identifier << shift).to_bytes(after, "big"),
                payload,
            )
        self.in_flight.sent(identifiers, [token for _, _, token in batch], now)
        return b"".join(parts)

    def fits(self, topic: bytes, payload: bytes) -> bool:
        """Return whether the broker takes a QoS 1 message of this size."""
        return len(topic) + len(payload) <= self._most and 0 < len(topic) <= LONGEST_FIELD

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> tuple[int, bytes]:
        """Return the packet identifier and SUBSCRIBE. Raises ValueError for a filter that MQTT cannot carry."""
        if any(qos not in (0, 1) for _, qos in filters):
            raise ValueError("subscribe at QoS 0 or 1; QoS 2 is not supported yet")
        if not filters:
            raise ValueError("no filter to subscribe to")
        identifier = self.in_flight.reserve()
        try:
            data = encode(Subscribe(identifier, tuple(Subscription(name, qos) for name, qos in filters)), self.level)
        except ValueError:
            self.in_flight.release(identifier)
            raise
        self._asked.add(identifier)
        return identifier, data

    def disconnect(self, reason: int = 0) -> bytes:
        """Return DISCONNECT; its reason is said in MQTT 5 only."""
        return encode(Disconnect(reason if self.level >= 5 else 0), self.level)

    def replies(self) -> bytes:
        """Return what the packets received so far are owed, once."""
        if not self._replies:
            return b""
        data = b"".join(self._replies)
        self._replies.clear()
        return data

    def _after_topic(self, qos: int) -> int:
        return (2 if qos else 0) + (1 if self.level >= 5 else 0)

    def _topic(self, topic: bytes) -> bytes:
        if not 0 < len(topic) <= LONGEST_FIELD:
            raise ValueError(f"a topic has 1 to {LONGEST_FIELD} bytes, not {len(topic)}")
        if len(self._topics) >= _CACHED:
            self._topics.clear()
        field = self._topics[topic] = len(topic).to_bytes(2, "big") + topic
        return field

    def _header(self, first: int, size: int) -> bytes:
        headers = self._headers[first]
        if len(headers) >= _CACHED:
            headers.clear()
        header = headers[size] = bytes((first,)) + varint(size)
        return header

    # -- what has come

    def receive(self, data: bytes) -> list[Event]:
        """Return what the bytes mean, in order.

        Never raises: a ProtocolError is the last event, and nothing is read after it.
        """
        events: list[Event] = []
        if self._failed:
            return events
        if len(data) > 7 and data[0] == _PUBACK and self._welcome and not self._framer.kept:
            data = self._pubacks(data, events)
        tokens: list[int] = []
        try:
            for first, body in self._framer.feed(data):
                if first == _PUBACK and self._welcome and self._plain(body):
                    tokens += self.in_flight.acknowledged((body[0] << 8 | body[1],))
                    continue
                event = self._event(first, body)
                if event is not None:
                    if tokens:
                        events.append(Acknowledged(tokens))
                        tokens = []
                    events.append(event)
        except ProtocolError as error:
            self._failed = True
            if tokens:
                events.append(Acknowledged(tokens))
            events.append(error)
            return events
        if tokens:
            events.append(Acknowledged(tokens))
        return events

    def _plain(self, body: bytes) -> bool:
        """Return whether the body of a PUBACK is an identifier and success, and nothing else."""
        length = len(body)
        return (length == 2 or (length == 3 and body[2] < 0x80 and self.level >= 5)) and body[:2] != b"\0\0"

    def _pubacks(self, data: bytes, events: list[Event]) -> bytes:
        """Take a chunk of equal PUBACKs, which a broker mostly sends, in a few steps for all; return what is left."""
        length = data[1]
        width = length + 2
        count = len(data) // width
        if length == 3 and self.level >= 5:
            reason = data[4]
            if reason >= 0x80 or data[4 : count * 5 : 5].count(reason) != count:
                return data
        elif length != 2:
            return data
        stop = count * width
        if data[0:stop:width].count(_PUBACK) != count or data[1:stop:width].count(length) != count:
            return data
        pairs = bytearray(2 * count)
        pairs[0::2] = data[2:stop:width]
        pairs[1::2] = data[3:stop:width]
        identifiers = unpack(f">{count}H", pairs)
        if 0 in identifiers:
            return data
        tokens = self.in_flight.acknowledged(identifiers)
        if tokens:
            events.append(Acknowledged(tokens))
        return data[stop:]

    def _event(self, first: int, body: bytes) -> Event | None:
        packet = decode(first, body, self.level)
        if not self._welcome:
            if not isinstance(packet, Connack):
                raise ProtocolError(f"{type(packet).__name__.upper()} before CONNACK", reason=PROTOCOL_ERROR)
            self._take_limits(packet)
            return packet
        match packet:
            case Puback():
                # An identifier that is not in flight is passed over: it can only be a second answer, and tells nothing.
                tokens = self.in_flight.acknowledged((packet.packet_id,))
                if not tokens:
                    return None
                return Refused(tokens[0], packet.reason) if packet.reason >= 0x80 else Acknowledged(tokens)
            case Publish():
                return self._message(packet)
            case Suback():
                if packet.packet_id not in self._asked:
                    return None
                self._asked.remove(packet.packet_id)
                self.in_flight.release(packet.packet_id)
                return packet
            case Pingresp():
                return packet
            case Disconnect() if self.level >= 5:
                return packet
            case _:
                raise ProtocolError(f"{type(packet).__name__.upper()} where it cannot be", reason=PROTOCOL_ERROR)

    def _message(self, packet: Publish) -> Message:
        if packet.qos > 1:
            # No subscription was ever made with it.
            raise ProtocolError("a message at QoS 2", reason=QOS_UNSUPPORTED)
        if "topic_alias" in packet.properties:
            raise ProtocolError("a topic alias, which was not offered", reason=ALIAS_INVALID)
        if packet.qos:
            self._replies.append(encode(Puback(packet.packet_id), self.level))
        return Message(packet.topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.properties)

    def _take_limits(self, packet: Connack) -> None:
        if packet.reason:
            return
        self._welcome = True
        said = packet.properties
        options = self._options
        self.limits = Limits(
            receive_maximum=said.get("receive_maximum", 0xFFFF),
            maximum_packet_size=said.get("maximum_packet_size"),
            maximum_qos=said.get("maximum_qos", 2),
            retain_available=bool(said.get("retain_available", 1)),
            topic_alias_maximum=said.get("topic_alias_maximum", 0),
            keep_alive=float(said.get("server_keep_alive", options.keep_alive)),
            client_id=said.get("assigned_client_identifier", options.client_id),
            wildcard_subscription_available=bool(said.get("wildcard_subscription_available", 1)),
            shared_subscription_available=bool(said.get("shared_subscription_available", 1)),
        )
        self.window = min(options.window, self.limits.receive_maximum)
        largest = self.limits.maximum_packet_size
        if largest is not None:
            # The packet's first byte and its length, which takes 1 to 4 bytes, count as well.
            body = max(min(largest - 1 - width, (1 << 7 * width) - 1) for width in (1, 2, 3, 4))
            self._most = body - 2 - self._after_topic(1)
