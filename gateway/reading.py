"""An entry of the outbox: a device's values at one instant, or a program's message, with its place in its stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

Value: TypeAlias = float | int | bool | str
Values: TypeAlias = Mapping[str, Value]

# Names that the payload uses for itself; a device's key of that name is published with a trailing underscore.
RESERVED = frozenset({"ts", "seq", "epoch", "historical", "time_quality", "ts_min", "ts_max"})

# The stream of the ledger's own entries, published under that name; so no device can have it.
LEDGER = "ledger"

# A reading's id is its epoch and its place within it, so that no id is ever used twice.
EPOCH_SHIFT = 40

A_READING = 100
"""Bytes that a reading is taken to weigh in memory."""


class Publication(NamedTuple):
    """A message that a program publishes, as it is; for every version of MQTT.

    `properties` are those of MQTT 5, by their names in `gateway.mqtt.properties.Properties`; older versions leave them
    out.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] | None = None


class Reading(NamedTuple):
    """One device's values at one instant, or one publication, which takes the same way.

    `id` is unique for ever and dense within an epoch; `seq` is gapless within one stream and epoch, from 1.
    `boot` is CLOCK_BOOTTIME in seconds when it was taken in; `time` is the device's own UTC time in seconds, if it has
    one.
    """

    id: int
    stream: str
    seq: int
    boot: float
    time: float | None
    values: dict[str, Value] | Publication

    @property
    def epoch(self) -> int:
        """The run of the gateway in which it was taken in, from 1."""
        return self.id >> EPOCH_SHIFT


class Doubt(NamedTuple):
    """Between what a reading was measured, in UTC milliseconds, whose boot never had its clock set; None: not known."""

    earliest: int | None
    latest: int | None


def weigh(values: dict[str, Value] | Publication) -> int:
    """Return about how many bytes it takes: topic and payload of a publication, a rough figure for a reading."""
    return len(values.topic) + len(values.payload) if isinstance(values, Publication) else A_READING
