r"""IEC 62056-21 (once IEC 1107): the readout of meters through their infrared interface.

Source: IEC 62056-21:2002, 6.3 (messages), 6.4 (modes), 5.4 and annex A (signs and block check), annex B (waking up). In
mode D a meter sends `/XXXZ…\r\n` and its lines up to `!\r\n` by itself, without a checksum. In the others it answers
the request `/?!\r\n` with the first line, in which Z says what comes next: its lines between STX and ETX and the
exclusive or of what comes after STX, ETX included; in mode A at once, in mode B at the speed that Z says, in mode C
after an acknowledgement, at that which it says.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from adapters.frames.checksums import xor8
from adapters.frames.obis import data_sets, metric, quantity
from gateway import Value

LONGEST = 16384  # bytes; a readout with the values of all months has about 4,000

_ACK: Final = b"\x06"
_SPEEDS: Final[dict[bytes, int]] = {
    b"0": 300, b"1": 600, b"2": 1200, b"3": 2400, b"4": 4800, b"5": 9600, b"6": 19200,
}  # fmt: skip
_SPEEDS_IN_B: Final[dict[bytes, int]] = {
    b"A": 600, b"B": 1200, b"C": 2400, b"D": 4800, b"E": 9600, b"F": 19200,
}  # fmt: skip


class Offer(NamedTuple):
    """How a meter goes on after its first line."""

    speed: int | None
    """In bit/s; None: it stays as it is, in mode A."""
    waits: bool
    """For an acknowledgement, in mode C, which says at which speed."""


def request(address: str) -> bytes:
    """Return the request for a readout of the meter with this address; of any meter, if it is empty."""
    return f"/?{address}!\r\n".encode("ascii")


def offer(identification: bytes) -> Offer:
    """Return how a meter goes on that began with this line. Raises ValueError if it is no identification."""
    if len(identification) < 5 or not identification.startswith(b"/") or not identification.isascii():
        raise ValueError("not an identification")
    sign = identification[4:5]
    if sign in _SPEEDS:
        return Offer(_SPEEDS[sign], waits=True)
    return Offer(_SPEEDS_IN_B.get(sign), waits=False)


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
    """Return what a readout says, by metric, without the values of past billing periods. Raises ValueError for none.

    Meters that number the periods from the present one on write it as `*00`; where a value stands without that as well,
    it is the present one.
    """
    try:
        text = frame.decode("ascii")
    except ValueError:
        raise ValueError("not ASCII") from None
    values: dict[str, Value] = {}
    numbered: dict[str, Value] = {}
    for raw in text.split("\n"):
        for one in data_sets(raw.strip()):
            if one.medium not in (None, 1) or one.billing not in (None, 0, 255):
                continue
            name, found = metric(one.code), quantity(one.groups[0])
            if name is not None and found is not None:
                (numbered if one.billing == 0 else values)[name] = found
    if not values and not numbered:
        raise ValueError("no values in it")
    return numbered | values
