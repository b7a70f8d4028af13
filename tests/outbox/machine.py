"""A machine whose clock the test turns: boots follow one another, the true time goes on, and the clock may be wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from gateway.clock import Clock
from gateway.formats import FORMATS
from gateway.outbox import Feed, Outbox
from gateway.outbox.boots import Epoch
from gateway.outbox.times import Times
from gateway.reading import Reading
from gateway.timesync import RELEASED, Evidence

START = RELEASED + 3e7
TEN_YEARS = 3650 * 86_400.0
EXACT = 0.05
"""Seconds by which a time may be wrong that is right."""

NOBODY = Evidence(kernel=False)
"""No daemon is there."""
AWAITED = Evidence(kernel=False, timesyncd=False)
DONE = Evidence(kernel=True, timesyncd=True)


class Machine:
    """`now` is the truth, in UTC seconds."""

    def __init__(self, *, shows: float | None = None, evidence: Evidence = AWAITED) -> None:
        self.now = START
        self._boots = 0
        self.reboot(0.0, shows=shows, evidence=evidence)

    def reboot(
        self, seconds: float = 20.0, *, shows: float | None = None, evidence: Evidence = AWAITED, rate: float = 1.0
    ) -> None:
        """Be down for so long; then the wall clock `shows` a time, in UTC seconds (None: the right one).

        `rate` is how fast its clocks run, until they are set.
        """
        self.now += seconds
        self._began = self.now
        self._boots += 1
        self._rate = rate
        self._error = 0.0 if shows is None else shows - self.now
        self.evidence = evidence

    @property
    def boot_id(self) -> str:
        """The name of this boot."""
        return f"boot {self._boots}"

    @property
    def uptime(self) -> float:
        """Seconds since boot, as it counts them."""
        return (self.now - self._began) * self._rate

    @property
    def wall(self) -> float:
        """What the wall clock shows."""
        return self._began + self.uptime + self._error

    def set(self, *, by: Evidence = DONE) -> None:
        """Somebody who knows the time sets the clock."""
        self._error = self.now - self._began - self.uptime
        self.evidence = by

    def step(self, seconds: float) -> None:
        """Somebody puts the clock forward, or back."""
        self._error += seconds

    def clock(self) -> Clock:
        """The clock of a process that begins now."""
        return Clock(lambda: self.uptime, lambda: self.wall, self.boot_id, lambda: self.evidence)


@asynccontextmanager
async def outbox_of(machine: Machine, path: Path, hold: float = 30.0, **options: Any) -> AsyncIterator[Outbox]:
    async with Outbox(path, ["cloud"], clock=machine.clock(), hold_unsynced=hold, **options) as outbox:
        yield outbox


def put(outbox: Outbox, machine: Machine, count: int, every: float = 0.01) -> None:
    """Take in readings that know the truth."""
    for _ in range(count):
        machine.now += every
        outbox.put("boiler", {"truth": machine.now})


def look(outbox: Outbox) -> None:
    assert outbox._timekeeper is not None
    outbox._timekeeper.look()


def sent(feed: Feed, readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return what a receiver gets of these, and acknowledge them."""
    moments = feed.moments(readings, 5.0)
    told = [orjson.loads(FORMATS["json"](one, *moment)) for one, moment in zip(readings, moments, strict=True)]
    if readings:
        feed.acknowledged([reading.id for reading in readings])
    return told


def is_exact(told: dict[str, Any]) -> bool:
    return abs(told["ts"] / 1000 - told["truth"]) <= EXACT


def times_of(machine: Machine, *epochs: Epoch) -> Times:
    """A run of this boot, after these."""
    clock = machine.clock()
    _, offset = clock.read()
    return Times(clock, [*epochs, Epoch(100, machine.boot_id, offset)], offset)


def reading(epoch: int, boot: float, time: float | None = None) -> Reading:
    return Reading((epoch << 40) + 1, "boiler", 1, boot, time, {"n": 1})
