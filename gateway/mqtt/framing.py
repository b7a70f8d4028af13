"""Cuts a byte stream into packets (MQTT 5.0 section 2.1), and never keeps more than the largest packet allowed."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.mqtt.codec import FIRST_BYTES, FIRST_BYTES_31
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.reasons import TOO_LARGE


class Framer:
    """Takes chunks as they come, gives (first byte, body) of each packet that is complete.

    `maximum` is the size in bytes, header included, of the largest packet allowed. A larger one, and a first byte or a
    length that MQTT does not know, are refused as soon as they are seen, before the body is there.
    """

    def __init__(self, maximum: int, level: int = 5) -> None:
        self._maximum = maximum
        self._first_bytes = FIRST_BYTES_31 if level == 3 else FIRST_BYTES
        self._kept = bytearray()
        self._needed = 0  # so many bytes are needed before there is anything to look at

    @property
    def kept(self) -> int:
        """Return the number of bytes that wait for the rest of their packet."""
        return len(self._kept)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give every packet that `data` completes; to be used up each time.

        Raises ProtocolError at the first byte that cannot be MQTT.
        """
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return
            data = bytes(self._kept)
            self._kept.clear()
        offset, end, first_bytes, maximum = 0, len(data), self._first_bytes, self._maximum
        while offset < end:
            first = data[offset]
            if first not in first_bytes:
                raise ProtocolError(f"no packet begins with 0x{first:02X}")
            start = offset + 2
            if start <= end and data[start - 1] < 0x80:
                stop = start + data[start - 1]
            else:
                start, stop = self._long(data, offset, end)
            if stop - offset > maximum:
                raise ProtocolError(
                    f"a packet of {stop - offset} bytes, more than the {maximum} allowed", reason=TOO_LARGE
                )
            if stop > end:
                self._kept += data[offset:]
                self._needed = stop - offset
                return
            yield first, data[start:stop]
            offset = stop

    @staticmethod
    def _long(data: bytes, offset: int, end: int) -> tuple[int, int]:
        """Return where a body starts and stops whose length takes several bytes; past the end if not known yet."""
        length = 0
        for position, shift in enumerate((0, 7, 14, 21), offset + 1):
            if position >= end:
                return end, end + 1
            byte = data[position]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                if shift and not byte:
                    break
                return position + 1, position + 1 + length
        raise ProtocolError("malformed packet length")
