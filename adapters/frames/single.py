"""Floating point of 32 bits, in as few digits as say which number it is: 230.2, and not 230.1999969482422."""

from __future__ import annotations

import struct
from math import isfinite
from typing import Final

_SINGLE: Final = struct.Struct(">f")
_DIGITS: Final = range(6, 9)
"""Significant digits: 6 may do, 9 always tell. Source: IEEE 754, binary32; FLT_DIG and FLT_DECIMAL_DIG of C."""


def shortest(number: float) -> float:
    """Return the number with the fewest digits that is the same in 32 bits as `number`, which has no more."""
    if not isfinite(number):
        return number
    packed = _SINGLE.pack(number)
    for digits in _DIGITS:
        short = float(f"{number:.{digits}g}")
        try:
            if _SINGLE.pack(short) == packed:
                return short
        except OverflowError:  # rounded up, beyond the largest
            continue
    return float(f"{number:.9g}")
