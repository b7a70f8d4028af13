"""The fields that MQTT packets are made of (MQTT 5.0 section 1.5): integers, lengths, binary data and text."""

from __future__ import annotations

from gateway.mqtt.errors import ProtocolError

LONGEST_FIELD = 0xFFFF
LARGEST_VARINT = 268_435_455


def varint(value: int) -> bytes:
    """Encode a variable byte integer. Raises ValueError above 268,435,455."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value > LARGEST_VARINT:
        raise ValueError(f"{value} bytes are more than an MQTT packet can hold")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def binary(value: bytes) -> bytes:
    """Encode binary data with its two-byte length. Raises ValueError above 65,535 bytes."""
    if len(value) > LONGEST_FIELD:
        raise ValueError(f"a field of {len(value)} bytes is longer than MQTT's {LONGEST_FIELD}")
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """Encode a UTF-8 string with its two-byte length. Raises ValueError for NUL, lone surrogates or too much."""
    if "\0" in value:
        raise ValueError("MQTT text cannot contain NUL")
    return binary(value.encode())


class Cursor:
    """Reads the fields of one packet's body in order; raises ProtocolError where the body is too short or malformed."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Return the number of bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self._at
        stop = start + count
        if stop > len(self._data):
            raise ProtocolError("the packet ends in the middle of a field")
        self._at = stop
        return self._data[start:stop]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.left)

    def byte(self) -> int:
        """Return an integer of one byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return a two-byte integer."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return a four-byte integer."""
        return int.from_bytes(self.take(4), "big")

    def packet_id(self) -> int:
        """Return a packet identifier, which is never 0."""
        value = self.u16()
        if not value:
            raise ProtocolError("packet identifier 0", reason=0x82)
        return value

    def varint(self) -> int:
        """Return a variable byte integer, which must be written in the fewest bytes."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift and not byte:
                    break
                return value
        raise ProtocolError("malformed variable byte integer")

    def binary(self) -> bytes:
        """Return binary data that carries its length in front."""
        return self.take(self.u16())

    def text(self) -> str:
        """Return a UTF-8 string that carries its length in front."""
        try:
            value = self.binary().decode()
        except UnicodeDecodeError:
            raise ProtocolError("text that is not UTF-8") from None
        if "\0" in value:
            raise ProtocolError("text with a NUL in it")
        return value

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.left:
            raise ProtocolError(f"{self.left} bytes too many in the packet")
