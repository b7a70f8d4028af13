"""The time of a reading: from seconds since boot to UTC, with the clock as it is known when somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.reading import EPOCH_SHIFT, Reading

DRIFT = 0.5
"""Seconds by which the clock must have been corrected before the card is told."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One run of the gateway: `offset` in seconds turns its times since boot into UTC."""

    id: int
    boot_id: str
    offset: float


class Times:
    """The offset to UTC of each epoch; those of the present boot follow the clock, also of an earlier run."""

    def __init__(self, clock: Clock, epochs: Sequence[Epoch], stored: float) -> None:
        """`epochs` in ascending order, the last is this one; `stored` is its offset as the card knows it."""
        self.epoch = epochs[-1].id
        self._clock = clock
        self._offset = self._stored = stored
        self._offsets = {epoch.id: epoch.offset for epoch in epochs}
        self._same_boot = [
            epoch.id for epoch in epochs if epoch.id == self.epoch or (epoch.boot_id and epoch.boot_id == clock.boot_id)
        ]
        self._correct(stored)
        self.refresh()

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
            self._correct(offset)
        return now

    def moments(self, readings: Sequence[Reading], late: float) -> list[tuple[int, bool]]:
        """Return, for each, the UTC milliseconds at which it was measured, and whether that was `late` seconds ago.

        A reading of an earlier run is late in any case.
        """
        since = self.refresh() - late
        first = self.epoch << EPOCH_SHIFT
        offset, offsets = self._offset, self._offsets
        return [
            (
                int((boot + offsets.get(id_ >> EPOCH_SHIFT, offset) if time is None else time) * 1000 + 0.5),
                boot < since or id_ < first,
            )
            for id_, _, _, boot, time, _ in readings
        ]

    def wall(self, reading: Reading) -> float:
        """Return the UTC time in seconds at which the reading was measured."""
        if reading.time is not None:
            return reading.time
        return reading.boot + self._offsets.get(reading.id >> EPOCH_SHIFT, self._offset)

    def correction(self) -> tuple[int, float] | None:
        """Return (epoch, offset) if the card should be told of a new one, else None."""
        return (self.epoch, self._offset) if abs(self._offset - self._stored) > DRIFT else None

    def stored(self, correction: tuple[int, float] | None) -> None:
        """Note what the card has been told."""
        if correction is not None:
            self._stored = correction[1]

    def _correct(self, offset: float) -> None:
        self._offset = offset
        self._offsets.update(dict.fromkeys(self._same_boot, offset))
