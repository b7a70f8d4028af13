r"""IEC 62056-21 (once IEC 1107): the readout of meters through their infrared interface.

Source: IEC 62056-21:2002, 6.3 (messages), 6.4 (modes), 5.4 and annex A (signs and block check). In mode D a meter sends
`/XXXZ…\r\n` and its lines up to `!\r\n` by itself, without a checksum. In mode C it answers the request `/?!\r\n` with
the first line alone; after the acknowledgement come its lines between STX and ETX and the exclusive or of what comes
after STX, ETX included.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from adapters.frames.checksums import xor8
from adapters.frames.obis import line, metric, quantity
from gateway import Value

LONGEST = 16384  # bytes; a readout with the values of all months has about 4,000

_ACK: Final = b"\x06"
_SPEEDS: Final[dict[bytes, int]] = {
    b"0": 300, b"1": 600, b"2": 1200, b"3": 2400, b"4": 4800, b"5": 9600, b"6": 19200,
}  # fmt: skip


def request(address: str) -> bytes:
    """Return the request for a readout of the meter with this address; of any meter, if it is empty."""
    return f"/?{address}!\r\n".encode("ascii")


def speed(identification: bytes) -> int | None:
    """Return the speed in bit/s that a mode C meter offers in its first line; None in other modes.

    Raises ValueError if the line is no identification.
    """
    if len(identification) < 5 or not identification.startswith(b"/") or not identification.isascii():
        raise ValueError("not an identification")
    return _SPEEDS.get(identification[4:5])


def acknowledgement(at: int) -> bytes:
    """Return what asks for a readout at a speed in bit/s. Raises ValueError if there is no sign for it."""
    for sign, each in _SPEEDS.items():
        if each == at:
            return _ACK + b"0" + sign + b"0\r\n"
    raise ValueError(f"no such speed: {at}")


class BlockFramer:
    """Cut what stands between STX and ETX out of a stream, if the block check after it is right."""

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._rest: bytearray | None = None  # from after STX; None: no STX yet

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the blocks that `chunk` completes, without STX, ETX and block check."""
        frames = []
        while chunk:
            if self._rest is None:
                _, begins, chunk = chunk.partition(b"\x02")
                self._rest = bytearray() if begins else None
                continue
            if self._rest.endswith(b"\x03"):
                if xor8(bytes(self._rest)) == chunk[0]:
                    frames.append(bytes(self._rest[:-1]))
                else:
                    self.thrown["wrong checksum"] += 1
                self._rest, chunk = None, chunk[1:]
                continue
            content, ends, chunk = chunk.partition(b"\x03")
            self._rest += content + ends
            if len(self._rest) > LONGEST:
                self.thrown["frame without an end"] += 1
                self._rest = None
        return frames


def decode(frame: bytes) -> dict[str, Value]:
    """Return what a readout says, by metric, without the values of past billing periods. Raises ValueError for none."""
    try:
        text = frame.decode("ascii")
    except ValueError:
        raise ValueError("not ASCII") from None
    values: dict[str, Value] = {}
    for raw in text.split("\n"):
        one = line(raw.strip())
        if one is None or one.medium not in (None, 1) or one.billing not in (None, 255):
            continue
        name, found = metric(one.code), quantity(one.groups[0])
        if name is not None and found is not None:
            values[name] = found
    if not values:
        raise ValueError("no values in it")
    return values
