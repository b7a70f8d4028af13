"""Whether the wall clock is set: what kernel and time daemons say, each asked without privileges, and the verdict."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

RELEASED = 1_761_955_200.0
"""UTC seconds before which this product was never run, 2025-11-01: a clock that shows less is certainly wrong."""
UNKNOWN_ERROR = 16_000_000
"""Microseconds: the kernel's maximum error of a clock that nobody disciplines. After boot, and after somebody has set
the clock by hand; a clock that is left alone drifts there within hours (Linux, kernel/time/ntp.c)."""


class Sync(Enum):
    """What is known of the wall clock of this boot."""

    SET = "set"  # by somebody who knows the time; it stays so until the next boot
    UNSET = "unset"  # it is certainly wrong, or whoever is to set it has not done so yet
    UNKNOWN = "unknown"  # nobody says anything, and it may be right: it is taken as it is


class Evidence(NamedTuple):
    """What each source says: True, it is synchronised; False, it is not; None, the source is not there or silent."""

    kernel: bool | None = None
    timesyncd: bool | None = None
    chrony: bool = False  # it runs: whether it has the time is what the kernel says


@dataclass(frozen=True)
class Sources:
    """Where evidence is found. Called in the event loop: one system call and three looks at a file system in memory.

    chrony and ntpd tell the kernel, so that its answer is theirs; systemd-timesyncd does as well, and leaves a file for
    those who may not ask the kernel (man 8 systemd-timesyncd: FILES). Its folder is there while it runs.
    """

    run: Path = Path("/run")
    kernel: Callable[[], bool | None] = field(default_factory=lambda: ask_kernel)

    def __call__(self) -> Evidence:
        """Return what they say now."""
        folder = self.run / "systemd" / "timesync"
        timesyncd = _is_there(folder / "synchronized") if _is_there(folder) else None
        return Evidence(self.kernel(), timesyncd, _is_there(self.run / "chrony"))


def verdict(found: Evidence, wall: float, known: float) -> Sync:
    """Decide whether a clock that shows `wall` is set. Times are UTC seconds; `known` is one that is over.

    Where no daemon is there that could set it, as in a container, a clock that may be right is taken as it is: the
    kernel calls such a one unsynchronised for ever.
    """
    if wall < RELEASED:
        return Sync.UNSET
    if found.kernel or found.timesyncd:
        return Sync.SET
    awaited = found.timesyncd is False or (found.chrony and found.kernel is False)
    return Sync.UNSET if awaited or wall < known else Sync.UNKNOWN


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`, which is the same for every width of `long` and of time (man 2 adjtimex)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),  # more than any of them has
    )


def ask_kernel() -> bool | None:
    """Say whether somebody disciplines the clock; None where that may not be asked (ProtectClock= in a unit).

    By the maximum error, and not by the flag STA_UNSYNC, which a daemon leaves set that is not to touch the hardware
    clock (chrony without `rtcsync`); systemd's timedatectl goes by the same.
    """
    timex = _Timex(modes=0)  # ask, and change nothing
    if _adjtimex(ctypes.byref(timex)) < 0:
        return None
    return bool(timex.maxerror < UNKNOWN_ERROR)


_adjtimex = ctypes.CDLL(None).adjtimex


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder on the way that we may not look into
        return False
