"""The clocks: time since boot, which never jumps, and its distance to UTC, which may."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.timesync import Evidence

# A correction smaller than this is the jitter of reading two clocks one after the other.
JITTER = 0.001
ATTEMPTS = 10
"""How often the clocks are read to know their distance, at most: on a busy machine, much may happen in between."""

BOOTTIME: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since boot, also those asleep."""


def read_boot_id() -> str:
    """Return the kernel's name for this boot, or "" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Clock:
    """CLOCK_BOOTTIME for order and age, and the offset that turns it into UTC at the moment it is needed."""

    def __init__(
        self,
        boot: Callable[[], float] = BOOTTIME,
        wall: Callable[[], float] = time.time,
        boot_id: str | None = None,
        evidence: Callable[[], Evidence] | None = None,
    ) -> None:
        """`evidence` tells whether the wall clock is set; None: it is taken as it is."""
        self.boot = boot
        self.evidence = evidence
        self.boot_id = read_boot_id() if boot_id is None else boot_id
        self._wall = wall
        self._offset = self._measure()

    def read(self) -> tuple[float, float]:
        """Return seconds since boot, and from there to UTC as it is now, without the jitter of reading two clocks."""
        now = self.boot()
        if not -JITTER <= self._wall() - now - self._offset <= JITTER:
            offset = self._measure()
            if not -JITTER <= offset - self._offset <= JITTER:
                self._offset = offset
        return now, self._offset

    def _measure(self) -> float:
        """Return the distance of the two clocks, as they were read closest to one another."""
        narrowest, offset = float("inf"), 0.0
        for _ in range(ATTEMPTS):
            before, wall, after = self.boot(), self._wall(), self.boot()
            if after - before < narrowest:
                narrowest, offset = after - before, wall - (before + after) / 2
            if narrowest <= JITTER:
                break
        return offset
