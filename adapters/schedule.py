"""When a device that is asked regularly is asked next: on a grid of its own, without drift. Pure."""

from __future__ import annotations

from math import floor
from zlib import crc32

_WIDEST = 1.0  # seconds: no first reading waits longer for the sake of the others


def following(start: float, interval: float, now: float) -> float:
    """Return the first of the times `start + n * interval` that is later than `now`; what was missed is left out.

    All in seconds; n is a whole number of 1 or more, and `interval` is positive. The time of a turn does not depend
    on how long the turns before it took.
    """
    turn = max(1, floor((now - start) / interval) + 1)
    # Rounding may have put a time on the grid just on this side of `now`.
    while start + turn * interval <= now:
        turn += 1
    return start + turn * interval


def spread(name: str, interval: float) -> float:
    """Return how many seconds the device called `name` waits before its first turn: always the same for a name.

    Devices with one interval would otherwise all be asked at the same moment, for ever. Less than one interval, and
    less than 1 s.
    """
    return crc32(name.encode()) / 2**32 * min(interval, _WIDEST)
