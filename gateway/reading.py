"""A reading: one device's values at one instant, with its place in its stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Value: TypeAlias = float | int | bool | str
Values: TypeAlias = Mapping[str, Value]

# Names that the payload uses for itself; a device's key of that name is published with a trailing underscore.
RESERVED = frozenset({"ts", "seq", "epoch", "historical", "time_quality"})

# A reading's id is its epoch and its place within it, so that no id is ever used twice.
EPOCH_SHIFT = 40


class Reading(NamedTuple):
    """One device's values at one instant.

    `id` is unique for ever and dense within an epoch; `seq` is gapless within one stream and epoch, from 1.
    `boot` is CLOCK_BOOTTIME in seconds when it was taken in; `time` is the device's own UTC time in seconds, if it has
    one.
    """

    id: int
    stream: str
    seq: int
    boot: float
    time: float | None
    values: dict[str, Value]

    @property
    def epoch(self) -> int:
        """The run of the gateway in which it was taken in, from 1."""
        return self.id >> EPOCH_SHIFT
