"""The messages on their way to the broker: a batch becomes one run of bytes, within what the broker allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from struct import pack
from typing import TypeAlias

from gateway.mqtt.fields import LARGEST_VARINT, LONGEST_FIELD, varint
from gateway.mqtt.inflight import InFlight
from gateway.mqtt.options import Limits, Options
from gateway.mqtt.properties import PUBLISH, Properties, joined_properties
from gateway.mqtt.topics import check_topic

Batch: TypeAlias = Sequence[tuple[bytes, bytes, int]]  # topic in UTF-8, payload, token

_CACHED = 4096  # topics and packet headers that are kept ready
_PUBREL = 0x6202_0000  # with the identifier, a whole packet
_ALIAS = b"\x23"  # the property topic alias, which takes 3 bytes
_NOT_OURS = ("topic_alias", "subscription_identifiers")


class Sending:
    """Writes PUBLISH and PUBREL, and remembers in `in_flight` what was sent."""

    def __init__(self, options: Options, level: int, in_flight: InFlight) -> None:
        self.in_flight = in_flight
        self._level = level
        self._wanted_aliases = options.topic_aliases
        self._nothing = b"\0" if level >= 5 else b""  # no properties, as they are written
        self._limits = Limits()
        self._body = LARGEST_VARINT  # bytes of a packet after its length, at most
        self._aliases_allowed = 0
        self._aliases: OrderedDict[bytes, int] = OrderedDict()  # by topic, the least recently used first
        self._topics: dict[bytes, bytes] = {}
        self._headers: dict[int, dict[int, bytes]] = {}

    def welcome(self, limits: Limits) -> None:
        """Obey what the broker has said."""
        self._limits = limits
        self._aliases_allowed = min(self._wanted_aliases, limits.topic_alias_maximum)
        largest = limits.maximum_packet_size
        if largest is not None:
            # The packet's first byte and its length, which takes 1 to 4 bytes, count as well.
            self._body = max(min(largest - 1 - width, (1 << 7 * width) - 1) for width in (1, 2, 3, 4))

    def publish(
        self, batch: Batch, qos: int, retain: bool, now: float, properties: Properties | None = None, dup: bool = False
    ) -> bytes:
        """Return the PUBLISH packets of a batch, sent at `now`.

        Raises ValueError for what MQTT cannot carry and this broker cannot take, and then takes none of them.
        """
        if qos not in (0, 1, 2):
            raise ValueError(f"QoS is 0, 1 or 2, not {qos}")
        if qos > self._limits.maximum_qos:
            raise ValueError(f"QoS {qos} is more than the broker's {self._limits.maximum_qos}")
        if retain and not self._limits.retain_available:
            raise ValueError("the broker retains no messages")
        said = self._said(properties) if properties else b""
        first = 0x30 | (dup and qos > 0) << 3 | qos << 1 | retain
        tokens = [token for _, _, token in batch]
        identifiers = self.in_flight.assign(tokens) if qos else ()
        if self._aliases_allowed:
            data = self._aliased(batch, first, identifiers, said)
        else:
            tail = varint(len(said)) + said if said else self._nothing
            data = self._plain(batch, first, identifiers, tail)
        if qos:
            self.in_flight.sent(identifiers, tokens, now, qos)
        return data

    def release(self, tokens: Iterable[int], now: float) -> bytes:
        """Return the PUBRELs of recorded messages; tokens that are not recorded are passed over."""
        return pubrels(self.in_flight.release(tokens, now))

    def resume(self, tokens: Iterable[int], now: float) -> bytes:
        """Return the PUBRELs of messages that were released in an earlier connection. Raises ValueError."""
        return pubrels(self.in_flight.resume(tokens, now))

    def fits(self, topic: bytes, payload: bytes, properties: Properties | None) -> bool:
        """Return whether the broker takes a message of this size at QoS 1 or 2. Raises ValueError."""
        size = 4 + len(topic) + len(payload)
        said = self._said(properties) if properties else b""
        size += len(varint(len(said))) + len(said) if said else len(self._nothing)
        return size <= self._body and 0 < len(topic) <= LONGEST_FIELD

    def _said(self, properties: Properties) -> bytes:
        if self._level < 5:
            return b""
        for name in _NOT_OURS:
            if name in properties:
                raise ValueError(f"{name} is not for the owner of a message to say")
        return joined_properties(properties, PUBLISH)

    def _plain(self, batch: Batch, first: int, identifiers: Sequence[int], tail: bytes) -> bytes:
        headers = self._headers.setdefault(first, {})
        fields = self._topics
        parts: list[bytes] = []
        if not identifiers:
            after = len(tail)
            for topic, payload, _ in batch:
                field = fields.get(topic) or self._topic(topic)
                size = len(field) + after + len(payload)
                parts += (headers.get(size) or self._header(first, size), field, tail, payload)
            return b"".join(parts)
        after = 2 + len(tail)
        for identifier, (topic, payload, _) in zip(identifiers, batch, strict=True):
            field = fields.get(topic) or self._topic(topic)
            size = len(field) + after + len(payload)
            parts += (
                headers.get(size) or self._header(first, size),
                field,
                identifier.to_bytes(2, "big"),
                tail,
                payload,
            )
        return b"".join(parts)

    def _aliased(self, batch: Batch, first: int, identifiers: Sequence[int], said: bytes) -> bytes:
        """Write each topic once, and its alias from then on."""
        tail = varint(len(said)) + said
        with_alias = varint(len(said) + 3) + said + _ALIAS
        aliases = self._aliases
        parts: list[bytes] = []
        try:
            for position, (topic, payload, _) in enumerate(batch):
                identifier = identifiers[position].to_bytes(2, "big") if identifiers else b""
                field = b"\0\0" if topic in aliases else self._topic(topic)
                rest = len(identifier) + len(payload)
                size = len(field) + rest + len(with_alias) + 2
                if size <= self._body:
                    end = with_alias + self._alias(topic).to_bytes(2, "big")
                else:  # it may be the alias that makes it too large
                    field, end = self._topic(topic), tail
                    size = len(field) + rest + len(tail)
                parts += (bytes((first,)), varint(size), field, identifier, end, payload)
            return b"".join(parts)
        except BaseException:
            aliases.clear()  # nothing is sent, so the broker hears of none of these
            raise

    def _alias(self, topic: bytes) -> int:
        """Return the alias of this topic, which is now the one used last; a new topic takes that of the oldest."""
        aliases = self._aliases
        if topic in aliases:
            aliases.move_to_end(topic)
        elif len(aliases) < self._aliases_allowed:
            aliases[topic] = len(aliases) + 1
        else:
            aliases[topic] = aliases.popitem(last=False)[1]
        return aliases[topic]

    def _topic(self, topic: bytes) -> bytes:
        field = self._topics.get(topic)
        if field is None:
            try:
                check_topic(topic.decode())
            except UnicodeDecodeError:
                raise ValueError(f"a topic must be UTF-8, not {topic!r}") from None
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


def pubrels(identifiers: Sequence[int]) -> bytes:
    """Return a PUBREL for each of these identifiers."""
    return pack(f">{len(identifiers)}I", *[_PUBREL | one for one in identifiers]) if identifiers else b""
