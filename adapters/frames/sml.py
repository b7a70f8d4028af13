"""Smart Message Language: German meters through their infrared head.

Source: BSI TR-03109-1, annex IV (SML 1.04): chapter 8 for the escape sequences of the transport (version 1), chapters 6
and 7 for types, lengths and messages. A file goes from `1B1B1B1B 01010101` to `1B1B1B1B 1A`, the number of bytes that
fill it up to a multiple of four, and a CRC-16/X-25 over all before it, low byte first; four `1B` in a row are written
twice. Units are those of DLMS/COSEM (IEC 62056-62). Early Holley DTZ541 have a CRC-16/KERMIT instead. What the status
of a counter says is told by FNN, "Lastenheft EDL" 1.0, in which bit 5 is the direction of the power.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal

from adapters.frames.checksums import crc16_kermit, crc16_x25
from adapters.frames.obis import metric, number
from gateway import Value

Checksum = Literal["x25", "kermit"]

LONGEST = 8192  # bytes; a meter's list of everything has about 600
DEEPEST = 8  # lists in lists; the values of a meter are the sixth

_ESCAPE: Final = b"\x1b\x1b\x1b\x1b"
_BEGIN: Final = _ESCAPE + b"\x01\x01\x01\x01"
_END: Final = 0x1A
_GET_LIST: Final = 0x0701
_SCALE: Final = 12  # powers of ten, at most
_CHECKS: Final[dict[Checksum, Callable[[bytes], int]]] = {"x25": crc16_x25, "kermit": crc16_kermit}

# In the status of a counter by FNN's EDL: it is one, and power flows out.
_EDL: Final = 0x0100
_OUTWARD: Final = 0x0020
_COUNTERS: Final = ("1.8.0", "2.8.0", "1.8.1", "2.8.1")
# DZG DVS74 with these numbers write a positive power of two bytes as if it had a sign; a negative one has four.
_DZG: Final = b"\x0a\x01DZG"
_UNSIGNED: Final = (range(42_000_000, 49_000_000), range(55_000_000, 59_000_000))

_UNITS: Final[dict[int, str]] = {
    13: "m3", 27: "W", 28: "VA", 29: "var", 30: "Wh", 31: "VAh", 32: "varh", 33: "A", 35: "V", 44: "Hz",
}  # fmt: skip


class Integer(int):
    """A number, and in how many bytes it was written."""

    width: int


class SmlFramer:
    """Cut a stream into SML files whose checksum is right, without the bytes that are doubled and that fill up.

    A file begins anew wherever its beginning is seen. What lies between files is counted as "bytes between frames".
    """

    def __init__(self, checksum: Checksum = "x25") -> None:
        self.thrown: Counter[str] = Counter()
        self._check = _CHECKS[checksum]
        self._rest = bytearray()
        self._begun = False  # the beginning of a file is the beginning of the rest
        self._seen = 0  # of the rest, up to here no escape begins
        self._doubled: list[int] = []  # where in the rest four bytes are said twice
        self._garbage = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the contents of the files that `chunk` completes: messages, one after another."""
        self._rest += chunk
        frames: list[bytes] = []
        while self._step(frames):
            pass
        return frames

    def _step(self, frames: list[bytes]) -> bool:
        """Go on to the next escape or beginning; return False when more bytes are needed."""
        rest = self._rest
        if not self._begun:
            return self._find_beginning()
        at = rest.find(_ESCAPE, self._seen)
        if at < 0 or len(rest) < at + 8:
            self._seen = max(self._seen, len(rest) - 3) if at < 0 else at
            return self._too_long()
        if at > LONGEST:
            self._seen = at
            return self._too_long()
        after = rest[at + 4 : at + 8]
        if after == _ESCAPE:
            self._doubled.append(at)
            self._seen = at + 8
        elif after == _BEGIN[4:]:
            self._lose("frame without an end", at)
        elif after[0] == _END and after[1] < 4:
            self._end(at, frames)
        else:  # the escape begins later: what it follows ends with the same byte
            self._seen = at + 1
        return True

    def _find_beginning(self) -> bool:
        rest = self._rest
        at = rest.find(_BEGIN)
        between = at if at >= 0 else max(0, len(rest) - len(_BEGIN) + 1)
        while at < 0 and between < len(rest) and not _BEGIN.startswith(rest[between:]):
            between += 1
        if between and not self._garbage:
            self._garbage = True
            self.thrown["bytes between frames"] += 1
        del rest[:between]
        if at < 0:
            return False
        self._begun, self._garbage, self._seen = True, False, len(_BEGIN)
        return True

    def _too_long(self) -> bool:
        if self._seen <= LONGEST:
            return False
        self._lose("frame without an end", len(_BEGIN))
        return True

    def _lose(self, reason: str, count: int) -> None:
        self.thrown[reason] += 1
        self._forget(count)
        self._garbage = True

    def _forget(self, count: int) -> None:
        del self._rest[:count]
        self._begun, self._seen = False, 0
        self._doubled.clear()

    def _end(self, at: int, frames: list[bytes]) -> None:
        rest = self._rest
        if int.from_bytes(rest[at + 6 : at + 8], "little") != self._check(bytes(rest[: at + 6])):
            self._lose("wrong checksum", at + 8)
            return
        pieces, start = [], len(_BEGIN)
        for place in self._doubled:
            pieces.append(rest[start : place + 4])
            start = place + 8
        pieces.append(rest[start:at])
        content = b"".join(pieces)
        frames.append(content[: len(content) - rest[at + 5]])
        self._forget(at + 8)


def decode(frame: bytes) -> dict[str, Value]:
    """Return what the content of an SML file says, by metric: the lists of values in it; nothing, if it has none.

    Raises ValueError for what is no SML.
    """
    values: dict[str, Value] = {}
    at = 0
    while at < len(frame):
        message, at = _element(frame, at, DEEPEST)
        # Transaction, group, what to do on errors, the body (its kind and content), checksum, end.
        if not isinstance(message, list) or len(message) != 6:
            raise ValueError("not an SML message")
        body = message[3]
        if isinstance(body, list) and len(body) == 2 and body[0] == _GET_LIST:
            _take(body[1], values)
    return values


def _take(response: Any, values: dict[str, Value]) -> None:
    # Client, server, name of the list, time, values, signature, time of the gateway.
    if not isinstance(response, list) or len(response) != 7 or not isinstance(response[4], list):
        raise ValueError("not a list of values")
    statuses: dict[str, int] = {}
    for entry in response[4]:
        # Name, status, time, unit, power of ten, value, signature.
        if not isinstance(entry, list) or len(entry) != 7:
            raise ValueError("not a list of values")
        name, status, _, unit, scale, value, _ = entry
        if not isinstance(name, bytes) or len(name) != 6 or name[0] != 1 or name[5] != 0xFF:
            continue  # not electricity, or a value of the past
        code = f"{name[2]}.{name[3]}.{name[4]}"
        if isinstance(status, Integer):
            statuses[code] = status
        found = metric(code)
        if found is None or not isinstance(value, Integer) or (unit is not None and unit not in _UNITS):
            continue
        if code == "16.7.0" and value < 0 and value.width <= 3 and _writes_no_sign(response[1]):
            value += 1 << 8 * value.width
        power = 0 if scale is None else scale
        if not isinstance(power, int) or abs(power) > _SCALE:
            raise ValueError("power of ten out of range")
        result = number(f"{Decimal(value).scaleb(power):f}", _UNITS.get(unit, ""))
        if result is not None:
            values[found] = result
    _direct(values, statuses)


def _writes_no_sign(server: Any) -> bool:
    """Say whether the meter of this number is one of those whose power is never negative in few bytes."""
    if not isinstance(server, bytes) or len(server) != 10 or not server.startswith(_DZG):
        return False
    return any(int.from_bytes(server[5:], "big") in numbers for numbers in _UNSIGNED)


def _direct(values: dict[str, Value], statuses: dict[str, int]) -> None:
    """Add `power`, negative outward, where a meter says its amount and, in the status of a counter, its direction."""
    amount = values.get("power_absolute")
    status = next((statuses[code] for code in _COUNTERS if code in statuses), 0)
    if isinstance(amount, float) and "power" not in values and status & _EDL and status < 2 * 0x10000:
        values["power"] = -amount if status & _OUTWARD else amount


def _element(data: bytes, at: int, levels: int) -> tuple[Any, int]:
    """Return the value that begins at `at`, and where the next begins. None stands for what is left out.

    Text is bytes, a list is a list, the end of a message is an empty one. Raises ValueError for what is no value.
    """
    kind, size, start = _head(data, at)
    if kind == 7:
        if levels == 0:
            raise ValueError(f"lists nested more than {DEEPEST} deep")
        items, at = [], start
        for _ in range(size):
            item, at = _element(data, at, levels - 1)
            items.append(item)
        return items, at
    if data[at] == 0:
        return b"", start  # the end of a message
    end = at + size
    if end < start or end > len(data):
        raise ValueError("ends within a value")
    content = data[start:end]
    if kind == 0:
        return content or None, end
    if kind == 4 and len(content) == 1:
        return content != b"\x00", end
    if kind in (5, 6) and 1 <= len(content) <= 8:
        value = Integer.from_bytes(content, "big", signed=kind == 5)
        value.width = len(content)
        return value, end
    raise ValueError("value of an unknown type")


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the type, the length (with this head, or of a list: its items), and where the content begins."""
    size, start = 0, at
    while start < len(data) and start - at < 4:
        byte = data[start]
        size = size << 4 | byte & 0x0F
        start += 1
        if not byte & 0x80:
            return data[at] >> 4 & 7, size, start
    raise ValueError("ends within a value")
