"""Texas Instruments ADS1115 and ADS1015: what is written to have a voltage measured, and what the answer means.

Source: SBAS444E (ADS1113, ADS1114, ADS1115), sections 7.3.3 (full-scale range and size of a step), 7.5.4 (data format)
and 8.1.3 (configuration register); SBAS473E (ADS1015), whose 12 bits stand at the top of the same register.
"""

from __future__ import annotations

CONVERSION, CONFIG = 0x00, 0x01
PINS = {"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}
"""What is measured: one input against another, or against ground."""
RANGES = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)
"""Volts at full scale."""
RATES = {
    "ads1115": (8, 16, 32, 64, 128, 250, 475, 860),
    "ads1015": (128, 250, 490, 920, 1600, 2400, 3300),
}
"""Measurements a second; the oscillator may be 10 % off."""
_START, _ONCE, _NO_COMPARATOR = 1 << 15, 1 << 8, 0b11
_FULL = {"ads1115": (0x7FFF, -0x8000), "ads1015": (0x7FF0, -0x8000)}


def start(kind: str, pins: str, full_scale: float, rate: int) -> bytes:
    """Return what is written to measure once."""
    word = _START | PINS[pins] << 12 | RANGES.index(full_scale) << 9 | _ONCE | RATES[kind].index(rate) << 5
    return bytes([CONFIG]) + (word | _NO_COMPARATOR).to_bytes(2, "big")


def is_ready(answer: bytes, started: bytes) -> bool:
    """Say whether the measurement that was `started` is over, from what the configuration register holds.

    Raises ValueError if it holds something else: the chip was reset, or has another master.
    """
    if answer[0] & 0x7F != started[1] & 0x7F or answer[1] != started[2]:
        raise ValueError(f"does not keep its settings ({started[1:].hex()} became {answer.hex()})")
    return bool(answer[0] & 0x80)


def decode(kind: str, answer: bytes, full_scale: float) -> float | None:
    """Return the voltage in V, or None where it is beyond the range."""
    steps = int.from_bytes(answer, "big", signed=True)
    if steps in _FULL[kind]:
        return None
    return round(steps * full_scale / 32768, 7)
