"""Every packet of a link in one line, for a log: without passwords and authentication data, and never long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from gateway.mqtt.codec import decode
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.fields import LARGEST_VARINT
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Packet

_SHOWN = 40  # bytes of a payload
_LONGEST = 200  # characters of any other value
_SECRET = ("password", "authentication_data")


class Trace:
    """Reads along in both directions and tells `told` "out" or "in", and the line."""

    def __init__(self, told: Callable[[str, str], None], level: int) -> None:
        self._told = told
        self._level = level
        self._framers = {way: Framer(LARGEST_VARINT, level) for way in ("out", "in")}

    def sent(self, data: bytes) -> None:
        """Tell what we send."""
        self._read("out", data)

    def came(self, data: bytes) -> None:
        """Tell what has come."""
        self._read("in", data)

    def _read(self, way: str, data: bytes) -> None:
        framer = self._framers.get(way)
        if framer is None:
            return
        try:
            for first, body in framer.feed(data):
                self._told(way, line(decode(first, body, self._level)))
        except ProtocolError as error:
            del self._framers[way]  # where the next packet begins is not known any more
            self._told(way, f"not MQTT: {error}")


def line(packet: Packet) -> str:
    """Return the name of a packet, and whatever of it says more than nothing."""
    return " ".join((type(packet).__name__.upper(), *_said(asdict(packet))))


def _said(fields: dict[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _said(value)  # properties, or a will
        elif name in _SECRET and value is not None:
            yield f"{name}=***"
        elif value is True:
            yield name
        elif isinstance(value, bytes):
            yield f"{name}={value[:_SHOWN]!r}{'...' if len(value) > _SHOWN else ''}({len(value)})"
        elif isinstance(value, tuple) and value and isinstance(value[0], dict):
            yield f"{name}=[{_short('; '.join(' '.join(_said(one)) for one in value))}]"
        elif value or (value == 0 and name == "qos"):
            yield f"{name}={_short(repr(value))}"


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."
