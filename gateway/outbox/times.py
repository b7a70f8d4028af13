"""The time of a reading: from seconds since boot to UTC, with the clock as it is known when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import NamedTuple

from gateway.clock import Clock
from gateway.outbox.boots import Epoch, Span, boots, doubtful, newest
from gateway.reading import EPOCH_SHIFT, Doubt, Reading
from gateway.timesync import Evidence, Sync, verdict

DRIFT = 0.5
"""Seconds by which the clock must have been corrected before the card is told."""
STEP = 1.0
"""Seconds of a correction that nobody makes but by setting the clock."""
HOUR = 3600.0
"""A clock that was set, or may have been, within the last hour tells nothing about how old something is."""
RESUMED = 600.0
"""Seconds: a boot whose clock goes on that soon after the newest time of the last one may go on from there, without a
hardware clock (fake-hwclock restores the time of the last shutdown)."""

Moment = tuple[int, bool, Doubt | None]
"""UTC milliseconds at which a reading was measured, whether it is historical, and between what, if that is in doubt."""


class Correction(NamedTuple):
    """What the card is to know of the clock of this run; see `Epoch`."""

    offset: float
    synced: bool | None
    seen: float


class Times:
    """The offset to UTC of each epoch; those of the present boot follow the clock, also of an earlier run."""

    def __init__(self, clock: Clock, epochs: Sequence[Epoch], stored: float) -> None:
        """`epochs` in ascending order, the last is this one; `stored` is its offset as the card knows it."""
        self._epochs = {one.id: one for one in epochs}
        *self._before, self._present = boots(epochs)
        self.epoch = epochs[-1].id
        self.sync = Sync.SET if self._present.synced else Sync.UNKNOWN
        """What is known of the clock; nothing, unless `judge` is called."""
        self.holding = False
        """Whether uplinks have to wait for the clock."""
        self._clock = clock
        self._found: Evidence | None = None
        self._offset = self._first = self._stored = stored
        self._newest = newest(self._before)
        self._resumed = bool(self._before) and 0.0 <= clock.boot() + stored - self._newest <= RESUMED
        self._latest = float("-inf")  # of all offsets since the clock was set
        self._synced = self._present.synced  # as the card knows it
        self._jumped = clock.boot()  # seconds since boot; whether it has jumped before this run, nobody knows
        self._offsets: dict[int, float] = {}
        self._lasted: dict[int, float] = {}  # by epoch: seconds from the beginning of its boot to that of this one
        self._trusted: frozenset[int] = frozenset()  # epochs of earlier boots that the clock tells the age of
        self._doubts: dict[int, Span] = {}
        self._survey()
        self._correct(stored)
        self.refresh()

    def learn(self, epochs: Sequence[Epoch]) -> None:
        """Take note of earlier runs that nobody knew of."""
        self._epochs = dict(sorted({**{one.id: one for one in epochs}, **self._epochs}.items()))
        *self._before, self._present = boots(list(self._epochs.values()))
        self._newest = newest(self._before)
        self._survey()
        self._correct(self._offset)

    def now(self) -> float:
        """Return seconds since boot."""
        return self._clock.boot()

    @property
    def offset(self) -> float:
        """From seconds since boot to UTC, as the clock was read last."""
        return self._offset

    def utc(self) -> float:
        """Return UTC in seconds, as the clock was read last."""
        return self._clock.boot() + self.offset

    def refresh(self) -> float:
        """Read the clock, so that `wall` tells the time as it is known now, and return seconds since boot."""
        now, offset = self._clock.read()
        if offset != self._offset:
            jump = abs(offset - self._offset)
            if jump > STEP:
                self._jumped = now
            self._correct(offset)
            if self._found is not None and jump > STEP:
                self.judge(self._found)
        return now

    # ---- whether the clock is set

    def judge(self, found: Evidence) -> None:
        """Decide whether the clock is set. Once it is, it stays so until the next boot."""
        self._found = found
        self.refresh()
        if self.sync is not Sync.SET:
            self.sync = verdict(found, self.utc(), self._newest)
            self._weigh()

    @property
    def corrected(self) -> float:
        """Seconds by which the clock was put forward since this run began."""
        return self._offset - self._first

    @property
    def awaited(self) -> bool:
        """Whether the clock is not set or, at a boot that may go on from the time of the last one, may not be."""
        if self.sync is Sync.UNKNOWN and self._found is not None:
            return self._resumed and abs(self.corrected) < STEP
        return self.sync is Sync.UNSET

    # ---- when a reading was measured

    def moments(self, readings: Sequence[Reading], late: float) -> list[Moment]:
        """Return, for each, the UTC milliseconds at which it was measured, and whether that was `late` seconds ago.

        A reading of an earlier run is late in any case. The third is None but for a reading whose time is in doubt.
        """
        since = self.refresh() - late
        first = self.epoch << EPOCH_SHIFT
        offset, earlier = self._offset, self._offsets.get
        moments: list[Moment] = [
            (int((boot + offset if time is None else time) * 1000 + 0.5), boot < since, None)
            if id_ >= first
            else (int((boot + earlier(id_ >> EPOCH_SHIFT, offset) if time is None else time) * 1000 + 0.5), True, None)
            for id_, _, _, boot, time, _ in readings
        ]
        if self._doubts:
            return [(*moment[:2], self._doubt(one)) for one, moment in zip(readings, moments, strict=True)]
        return moments

    def wall(self, reading: Reading) -> float:
        """Return the UTC time in seconds at which the reading was measured."""
        if reading.time is not None:
            return reading.time
        return reading.boot + self._offsets.get(reading.id >> EPOCH_SHIFT, self._offset)

    def age(self, reading: Reading) -> float:
        """Return for how many seconds it has been in the outbox, at least, whatever the clock has done meanwhile.

        By the time since boot, also of a reading with its device's own time. Of an earlier boot by as long as that, and
        all since, has certainly lasted; or by the clock, if it is known that both were right.
        """
        now = self._clock.boot()
        epoch = reading.id >> EPOCH_SHIFT
        if epoch in self._present.epochs:
            return now - reading.boot
        least = max(now, now + self._lasted.get(epoch, 0.0) - reading.boot) if self._present.id else 0.0
        if now - self._jumped < HOUR or epoch not in self._trusted:
            return least
        return max(least, now + self._offset - reading.boot - self._offsets.get(epoch, self._offset))

    # ---- what the card knows

    def correction(self) -> Correction | None:
        """Return what the card should be told of the clock, if it is news, else None."""
        if abs(self._offset - self._stored) <= DRIFT and self._is_set is self._synced:
            return None
        return Correction(self._offset, self._is_set, self._clock.boot())

    def stored(self, correction: Correction | None) -> None:
        """Note what the card has been told."""
        if correction is not None:
            self._stored, self._synced = correction.offset, correction.synced

    # ----

    @property
    def _is_set(self) -> bool | None:
        """What `Epoch.synced` says; where nobody has judged the clock, what an earlier run of this boot has said."""
        if self._found is None:
            return self._present.synced
        return {Sync.SET: True, Sync.UNSET: False, Sync.UNKNOWN: None}[self.sync]

    def _survey(self) -> None:
        """Take note of what earlier boots tell: when they began, and how long they have lasted, at least."""
        lasted = 0.0
        for boot in reversed(self._before):
            if boot.id:  # one without a name may be the same as the next
                lasted += boot.seen
            self._lasted.update(dict.fromkeys(boot.epochs, lasted if boot.id else 0.0))
            self._offsets.update(dict.fromkeys(boot.epochs, boot.offset))

    def _correct(self, offset: float) -> None:
        self._offset = offset
        self._offsets.update(dict.fromkeys(self._present.epochs, offset))
        self._weigh()

    def _weigh(self) -> None:
        """Find out whose time is in doubt, and between what bounds it lies."""
        if self._is_set:
            self._latest = max(self._latest, self._offset)  # where somebody puts it back later, bounds stay true
        now = replace(self._present, offset=self._latest if self._is_set else self._offset, synced=self._is_set)
        self._doubts = doubtful([*self._before, now])
        # Where nobody has asked, a clock is taken as it is.
        sure = [one for one in self._before if self._found is None or (self.sync is Sync.SET and one.synced)]
        self._trusted = frozenset(each for one in sure for each in one.epochs if each not in self._doubts)

    def _doubt(self, reading: Reading) -> Doubt | None:
        span = self._doubts.get(reading.id >> EPOCH_SHIFT)
        if span is None or reading.time is not None:
            return None
        earliest, latest = span.at(reading.boot)
        return Doubt(
            None if earliest is None else floor(earliest * 1000), None if latest is None else ceil(latest * 1000)
        )
