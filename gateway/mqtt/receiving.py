"""The messages that come from the broker: read, told once, and answered at once or when the owner confirms them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from struct import pack

from gateway.mqtt.codec import decode, encode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.events import Forgotten
from gateway.mqtt.fields import varint
from gateway.mqtt.listener import Message
from gateway.mqtt.options import Options
from gateway.mqtt.packets import Pubcomp, Publish, Pubrel
from gateway.mqtt.properties import Properties
from gateway.mqtt.reasons import ALIAS_INVALID, NOT_FOUND, PROTOCOL_ERROR, RECEIVE_MAXIMUM_EXCEEDED

# With the identifier in the lower half, these are whole packets.
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x4002_0000, 0x5002_0000, 0x6202_0000, 0x7002_0000

_CACHED = 1024  # topics that are kept as text
_SUBSCRIPTION = b"\x0b"  # the property subscription identifier
_SHORT = 256  # bytes of a topic that is worth keeping


class Receiving:
    """Takes PUBLISH and PUBREL. `received` are the QoS 2 identifiers that were told and are not released yet."""

    def __init__(self, options: Options, level: int, received: set[int] | None, remembers: bool) -> None:
        self.received = set[int]() if received is None else received
        self.leaving = False  # messages are passed over: we have said DISCONNECT
        self._level = level
        self._hold = options.hold_received
        self._remembers = remembers  # what is received is forgotten only when the owner confirms it
        self._maximum = options.receive_maximum
        # Messages that may still come before our first answer. Later ones are not counted: mosquitto 2.0 sends all of
        # its queue as soon as anything is acknowledged, and there are no more than 65535 identifiers anyhow.
        self._left = self._maximum if level >= 5 else inf
        self._most_aliases = options.topic_alias_maximum
        self._topics: dict[bytes, str] = {}
        self._numbers: dict[bytes, int] = {}  # subscription identifiers, by the properties that hold nothing else
        self._aliases: dict[int, str] = {}
        self._owed: list[int] = []  # answers, as words of four bytes
        self._longer: list[bytes] = []  # answers that take more
        self._unconfirmed: dict[int, int] = {}  # the answer that waits for the owner, by identifier

    def take(self, first: int, body: bytes) -> Message | None:
        """Return the message of a PUBLISH, or None if it is not to be told. Raises ProtocolError."""
        message = self._recognised(first, body) or self._decoded(first, body)
        if message.qos:
            return self._answerable(message)
        return None if self.leaving else message

    def _recognised(self, first: int, body: bytes) -> Message | None:
        """Read one whose topic and properties have come before, without the codec; None: only the codec can tell."""
        qos, packet_id, properties = first >> 1 & 3, 0, Properties()
        if len(body) < 5 or qos == 3:
            return None
        # The keys hold their length as well, so that what ends in the middle of it is not found.
        start = 2 + (body[0] << 8 | body[1])
        topic = self._topics.get(body[:start])
        if topic is None:
            return None
        if qos:
            packet_id = int.from_bytes(body[start : start + 2], "big")
            start += 2
        if self._level >= 5 and start < len(body):
            length = body[start]
            start += 1 + length
            if length:
                number = self._numbers.get(body[start - 1 - length : start])
                if number is None:
                    return None
                properties = {"subscription_identifiers": [number]}
        elif self._level >= 5:
            return None
        if start > len(body) or (qos and not packet_id):
            return None
        return Message(topic, body[start:], qos, first & 1 == 1, first & 8 == 8, properties, packet_id)

    def _decoded(self, first: int, body: bytes) -> Message:
        packet = decode(first, body, self._level)
        assert isinstance(packet, Publish)  # noqa: S101 - the first byte says so
        topic, properties = packet.topic, packet.properties
        alias = properties.pop("topic_alias", 0)
        if alias:
            topic = self._resolved(alias, topic)
        elif len(topic) <= _SHORT:
            if len(self._topics) >= _CACHED:
                self._topics.clear()
            self._topics[body[: 2 + (body[0] << 8 | body[1])]] = topic
            if properties.keys() == {"subscription_identifiers"}:
                self._remember(properties["subscription_identifiers"])
        return Message(topic, packet.payload, packet.qos, packet.retain, packet.dup, properties, packet.packet_id)

    def _remember(self, numbers: list[int]) -> None:
        """Know the properties of a message again that hold nothing but the number of one subscription."""
        if len(numbers) == 1:
            if len(self._numbers) >= _CACHED:
                self._numbers.clear()
            written = _SUBSCRIPTION + varint(numbers[0])
            self._numbers[bytes((len(written),)) + written] = numbers[0]

    def _resolved(self, alias: int, topic: str) -> str:
        if alias > self._most_aliases:
            words = f"topic alias {alias}, more than the {self._most_aliases} offered"
            raise ProtocolError(words, reason=ALIAS_INVALID)
        if topic:
            self._aliases[alias] = topic
        elif alias not in self._aliases:
            raise ProtocolError(f"topic alias {alias} before its topic", reason=PROTOCOL_ERROR)
        return self._aliases[alias]

    def _answerable(self, message: Message) -> Message | None:
        """Note what a message of QoS 1 or 2 is owed, and return it unless it was told before."""
        packet_id, twice = message.packet_id, message.qos == 2
        if self.leaving:
            return None
        self._left -= 1
        if self._left < 0:
            words = f"more than {self._maximum} messages without an answer to any"
            raise ProtocolError(words, reason=RECEIVE_MAXIMUM_EXCEEDED)
        again = twice and packet_id in self.received
        if twice:
            self.received.add(packet_id)
        answer = (PUBREC if twice else PUBACK) | packet_id
        if not self._hold or (again and packet_id not in self._unconfirmed):
            self._owed.append(answer)
        elif not again:
            self._unconfirmed[packet_id] = answer
        return None if again else message

    def released(self, packet: Pubrel) -> Forgotten | None:
        """Take a PUBREL: the broker is done with this message, and so are we."""
        packet_id = packet.packet_id
        if packet_id not in self.received:
            if self._level >= 5:
                self._longer.append(encode(Pubcomp(packet_id, NOT_FOUND), self._level))
            else:
                self._owed.append(PUBCOMP | packet_id)
            return None
        self.received.remove(packet_id)
        self._unconfirmed.pop(packet_id, None)
        if self._remembers:
            self._unconfirmed[packet_id] = PUBCOMP | packet_id
            return Forgotten(packet_id)
        self._owed.append(PUBCOMP | packet_id)
        return None

    def untold(self, message: Message) -> None:
        """Forget a message that nobody was told: when it comes again, it is new."""
        if message.qos == 2:
            self.received.discard(message.packet_id)

    def confirm(self, packet_ids: Iterable[int]) -> bytes:
        """Return the answers that were held for these; those that wait for none are passed over."""
        waiting = self._unconfirmed
        words = [waiting.pop(packet_id) for packet_id in packet_ids if packet_id in waiting]
        return self._packets(words)

    def replies(self) -> bytes:
        """Return what the packets received so far are owed, once."""
        if not self._owed and not self._longer:
            return b""
        data = b"".join((self._packets(self._owed), *self._longer))
        self._owed.clear()
        self._longer.clear()
        return data

    def _packets(self, words: list[int]) -> bytes:
        if words:
            self._left = inf
        return pack(f">{len(words)}I", *words)
