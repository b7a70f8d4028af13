"""What the broker answers to our messages, PUBACK, PUBREC and PUBCOMP: many at a time where they come so."""

from __future__ import annotations

from struct import unpack

from gateway.mqtt.codec import encode
from gateway.mqtt.endings import printable
from gateway.mqtt.events import Acknowledged, Event, Recorded, Refused
from gateway.mqtt.inflight import InFlight
from gateway.mqtt.packets import Puback, Pubcomp, Pubrec, Pubrel
from gateway.mqtt.reasons import NOT_FOUND
from gateway.mqtt.sending import pubrels

_PUBACK, _PUBREC, _PUBCOMP = 0x40, 0x50, 0x70
FIRST_BYTES = (_PUBACK, _PUBREC, _PUBCOMP)


class Answers:
    """Collects the tokens of one read; `told` gives them out as events. `owed` are the PUBRELs that must follow."""

    def __init__(self, level: int, in_flight: InFlight) -> None:
        self.owed: list[bytes] = []
        self._level = level
        self._in_flight = in_flight
        self._acknowledged: list[int] = []
        self._recorded: list[int] = []

    def told(self, events: list[Event]) -> None:
        """Append what was collected."""
        if self._recorded:
            events.append(Recorded(self._recorded))
            self._recorded = []
        if self._acknowledged:
            events.append(Acknowledged(self._acknowledged))
            self._acknowledged = []

    def run(self, data: bytes) -> bytes:
        """Take a chunk of equal PUBACKs or PUBCOMPs, as a broker mostly sends, in a few steps; return what is left."""
        first, length = data[0], data[1]
        width = length + 2
        count = len(data) // width
        if length == 3 and self._level >= 5:
            reason = data[4]
            if reason >= 0x80 or data[4 : count * 5 : 5].count(reason) != count:
                return data
        elif length != 2:
            return data
        stop = count * width
        if data[0:stop:width].count(first) != count or data[1:stop:width].count(length) != count:
            return data
        pairs = bytearray(2 * count)
        pairs[0::2] = data[2:stop:width]
        pairs[1::2] = data[3:stop:width]
        identifiers = unpack(f">{count}H", pairs)
        if 0 in identifiers:
            return data
        in_flight = self._in_flight
        self._acknowledged += (
            in_flight.acknowledged(identifiers) if first == _PUBACK else in_flight.completed(identifiers)
        )
        return data[stop:]

    def take(self, first: int, body: bytes, now: float) -> bool:
        """Take one that is an identifier and success, and nothing else; return False for any other."""
        length = len(body)
        if not (length == 2 or (length == 3 and body[2] < 0x80 and self._level >= 5)) or body[:2] == b"\0\0":
            return False
        identifier = body[0] << 8 | body[1]
        if first == _PUBACK:
            self._acknowledged += self._in_flight.acknowledged((identifier,))
        elif first == _PUBREC:
            self._record(identifier, now)
        else:
            self._acknowledged += self._in_flight.completed((identifier,))
        return True

    def take_packet(self, packet: Puback | Pubrec | Pubcomp, now: float) -> Refused | None:
        """Take one of any form; return a refusal."""
        identifier = packet.packet_id
        if isinstance(packet, Pubcomp):
            # Not found (0x92) is an end as well: the broker has completed it before.
            self._acknowledged += self._in_flight.completed((identifier,))
        elif packet.reason >= 0x80:
            for token in self._in_flight.refused(identifier):
                return Refused(token, packet.reason, printable(packet.properties.get("reason_string", "")))
        elif isinstance(packet, Pubrec):
            self._record(identifier, now)
        else:
            # An identifier that is not in flight is passed over: it can only be a second answer, and tells nothing.
            self._acknowledged += self._in_flight.acknowledged((identifier,))
        return None

    def _record(self, identifier: int, now: float) -> None:
        try:
            token, release = self._in_flight.record(identifier, now)
        except KeyError:
            # A message that we do not know cannot be recorded; in MQTT 5 PUBREL says so, before it only ends it.
            self.owed.append(encode(Pubrel(identifier, NOT_FOUND if self._level >= 5 else 0), self._level))
            return
        if release:
            self.owed.append(pubrels((identifier,)))
        elif token >= 0:
            self._recorded.append(token)
