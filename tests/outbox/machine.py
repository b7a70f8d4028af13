"""A machine whose clock the test turns: boots follow one another, the true time goes on, and the clock may be wrong."""

from __future__ import annotations

from gateway.clock import Clock
from gateway.timesync import RELEASED, Evidence

START = RELEASED + 3e7

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
