"""CSE7766, the meter in many switched sockets: voltage, current, power and pulses of energy, 18 times a second.

Source: Chipsea, "CSE7766 user manual", on its UART: state, `5A`, three pairs of coefficient and cycle
(24 bits each, for voltage, current and power), what is valid, a count of pulses (16 bits), the sum of bytes 2 to 22.
High bytes come first. A quantity is its coefficient / its cycle; the cycle is in µs, the time of one pulse.
"""

from __future__ import annotations

from collections.abc import Callable

from adapters.frames.checksums import sum8
from adapters.frames.framer import BinaryFramer
from adapters.schedule import following
from gateway import Value

_WELL, _UNCALIBRATED = 0x55, 0xAA
# In a state of F0 and above: what the chip has no number for, because its cycle takes too long.
_NO_VOLTAGE, _NO_CURRENT, _NO_POWER, _DAMAGED = 0x08, 0x04, 0x02, 0x01
_VOLTAGE_VALID, _CURRENT_VALID, _POWER_VALID = 0x40, 0x20, 0x10  # in byte 20
_DIGITS = 3


def framer() -> BinaryFramer:
    """Return what cuts these frames out of a stream. The first byte is the state, so that only the second is fixed."""
    return BinaryFramer(b"", _length, _sound, head=2)


def decoder() -> Callable[[bytes], dict[str, Value]]:
    """Return the function that reads frames: V, A, W, and Wh since the first of them.

    The energy is that of the pulses that the chip counted from the first frame on, also those of frames that were lost.
    The function raises ValueError where the chip says that it is damaged or was never calibrated.
    """
    last: int | None = None
    energy = 0.0  # Wh

    def decode(frame: bytes) -> dict[str, Value]:
        nonlocal last, energy
        state, valid = frame[0], frame[20]
        if state == _UNCALIBRATED:
            raise ValueError("the chip was never calibrated")
        missing = 0 if state == _WELL else state & 0x0F
        if missing & _DAMAGED:
            raise ValueError("the chip's calibration is damaged")
        values: dict[str, Value] = {}
        if valid & _VOLTAGE_VALID and not missing & _NO_VOLTAGE:
            _put(values, "voltage", frame, 2)
        power_known = bool(valid & _POWER_VALID and not missing & _NO_POWER)
        if not power_known:
            values["power"] = values["current"] = 0.0  # too little to measure: less than some 5 W
        else:
            _put(values, "power", frame, 14)
            if valid & _CURRENT_VALID and not missing & _NO_CURRENT:
                _put(values, "current", frame, 8)
        pulses = frame[21] << 8 | frame[22]
        if last is not None:
            # A pulse is as much energy as one cycle: coefficient W·µs.
            energy += ((pulses - last) & 0xFFFF) * _number(frame, 14) / 3.6e9
        last = pulses
        values["energy"] = round(energy, _DIGITS)
        return values

    return decode


def every(interval: float, now: Callable[[], float]) -> Callable[[bytes], dict[str, Value]]:
    """Return a decoder that says something once in `interval` seconds, and counts the energy of all frames."""
    decode = decoder()
    start: float | None = None
    due = 0.0

    def decode_due(frame: bytes) -> dict[str, Value]:
        nonlocal start, due
        values, time = decode(frame), now()
        if start is None:
            start = due = time
        if time < due:
            return {}
        due = following(start, interval, time) if interval else time
        return values

    return decode_due


def _put(values: dict[str, Value], name: str, frame: bytes, at: int) -> None:
    cycle = _number(frame, at + 3)
    if cycle:
        values[name] = round(_number(frame, at) / cycle, _DIGITS)


def _number(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 3], "big")


def _length(head: bytes) -> int:
    return 24 if head[1] == 0x5A and (head[0] in (_WELL, _UNCALIBRATED) or head[0] >= 0xF0) else 0


def _sound(frame: bytes) -> bool:
    return sum8(frame[2:23]) == frame[23]
