"""The scratchpad of 1-wire thermometers, as Linux shows it in `w1_slave`.

Source: Maxim DS18B20 data sheet (scratchpad, CRC, power-on value); Linux, Documentation/w1/slaves/w1_therm.rst.
"""

from __future__ import annotations

import re

from adapters.frames.checksums import crc8_maxim

POWER_ON = 85.0
"""Degrees that a sensor says which has not measured since it was given power."""
GONE = -127.0
"""Degrees that drivers say when nobody answers."""
_BYTES = "(?:[0-9a-f]{2} ){8}[0-9a-f]{2}"
_TEXT = re.compile(rf"\s*({_BYTES}) : crc=([0-9a-f]{{2}}) (YES|NO)\s+{_BYTES} t=(-?\d{{1,7}})\s*", re.IGNORECASE)


def decode(text: str) -> float:
    """Return the temperature in °C. Raises ValueError, with the reason, for what is no measurement.

    The checksum is looked at as well as the kernel's verdict on it: all zeros, which is a line that is shorted, has a
    right one.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("not what w1_slave says")
    scratchpad = bytes.fromhex(found[1])
    if found[3].upper() != "YES" or crc8_maxim(scratchpad[:8]) != scratchpad[8]:
        raise ValueError("wrong checksum: a long or disturbed line, or too weak a pull-up")
    if not any(scratchpad):
        raise ValueError("only zeros: the data line is shorted to ground")
    degrees = int(found[4]) / 1000
    if degrees <= GONE:
        raise ValueError("-127 °C: the sensor does not answer")
    return degrees
