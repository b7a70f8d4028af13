"""ROHM BH1750FVI: illuminance.

Source: ROHM, BH1750FVI technical note, "Instruction Set Architecture" and the example of calculation: 0x8390 is
28067 lx.
"""

from __future__ import annotations

ONCE = b"\x20"
"""Measure once, at high resolution, and sleep."""
MEASURING = 0.18
"""Seconds that this takes at most."""


def decode(data: bytes) -> float | None:
    """Return the illuminance in lx of two bytes, or None where it is brighter than can be told."""
    counts = int.from_bytes(data, "big")
    return None if counts == 0xFFFF else round(counts / 1.2, 1)
