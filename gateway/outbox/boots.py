"""Boots: what the epochs tell of the clock of each, and between what bounds the time of one lies that had no right one.

All bounds rest on clocks that were set, and on two facts: boots follow one another, and a boot lasts at least as long
as its own clock has been seen to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.timesync import RELEASED

SLACK = 1.0
"""Seconds by which the card may know a clock too late: corrections of half a second are not worth a write."""
STRAY = 500e-6
"""Part by which a clock that nobody disciplines runs too fast, at most: what the kernel can correct, 500 ppm."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One run of the gateway: `offset` in seconds turns its times since boot into UTC."""

    id: int
    boot_id: str
    offset: float
    synced: bool | None = None  # whether its clock was set; None: nobody has said
    since: float | None = None  # UTC seconds: its boot began later than that; None: not known
    seen: float = 0.0  # seconds since boot: it was up for so long, at least


@dataclass(frozen=True, slots=True)
class Boot:
    """All runs of one boot, of which the newest knows best."""

    epochs: tuple[int, ...]
    id: str
    offset: float
    synced: bool | None
    since: float | None
    seen: float

    @property
    def over(self) -> float | None:
        """A time, in UTC seconds, that was certainly over when this boot ended; None: not known."""
        if self.synced:
            return self.offset + self.seen - SLACK
        return None if self.since is None else self.since + self.seen * (1 - STRAY)

    @property
    def claims(self) -> float | None:
        """The same, if a clock of which nobody has said that it was wrong was right."""
        return self.over if self.synced is False else self.offset + self.seen - SLACK


@dataclass(frozen=True, slots=True)
class Span:
    """What bounds a time of a boot whose own clock is not to be trusted, in UTC seconds; None: not known."""

    since: float | None  # of the boot's beginning
    until: float | None  # of all of it

    def at(self, boot: float) -> tuple[float | None, float | None]:
        """Return what bounds the instant `boot` seconds after it began."""
        return None if self.since is None else self.since + boot * (1 - STRAY), self.until


def boots(epochs: Sequence[Epoch]) -> list[Boot]:
    """Return the boots of these runs, both in the order of time; runs without a name for their boot have each its own.

    The last is that of the last run.
    """
    groups: dict[object, list[Epoch]] = {}
    for epoch in epochs:
        key = epoch.boot_id or epoch.id
        groups[key] = [*groups.pop(key, []), epoch]
    return [
        Boot(
            tuple(one.id for one in group),
            group[-1].boot_id,
            group[-1].offset,
            group[-1].synced,
            max((one.since for one in group if one.since is not None), default=None),
            max(one.seen for one in group),
        )
        for group in groups.values()
    ]


def begun_after(before: Sequence[Boot]) -> float:
    """Return a time, in UTC seconds, that was certainly over when the boot after these began."""
    return max([RELEASED, *(boot.over for boot in before if boot.over is not None)])


def newest(before: Sequence[Boot]) -> float:
    """Return the newest time, in UTC seconds, that the clocks of these boots have shown and may have been right."""
    wrong = doubtful(before)
    said = (boot.claims for boot in before if not wrong.keys() & boot.epochs)
    return max([begun_after(before), *(one for one in said if one is not None)])


def doubtful(all_boots: Sequence[Boot]) -> dict[int, Span]:
    """Return the bounds for each epoch whose clock was certainly wrong.

    Not earlier than what was over before its boot began: the last time of an earlier boot whose clock was set, and all
    that has passed since, as far as it is known. Not later than the beginning of the first boot after it whose clock
    was set. A clock that nobody has called wrong is found out by the latter, and any that shows less than the former.
    """
    found: dict[int, Span] = {}
    until: float | None = None
    for boot in reversed(all_boots):
        too_late = until is not None and boot.offset + boot.seen - SLACK > until
        # Somebody has put it back after it was set.
        too_early = boot.synced and boot.since is not None and boot.offset + SLACK < boot.since
        if boot.synced is False or too_early or (boot.synced is None and too_late):
            found.update(dict.fromkeys(boot.epochs, Span(boot.since, until)))
        elif boot.synced:
            until = boot.offset + SLACK if until is None else min(until, boot.offset + SLACK)
    return found
