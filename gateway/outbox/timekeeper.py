"""The timekeeper: looks whether the clock is set for as long as it is not, and has uplinks wait for it in the meantime.

The one timer of all this. Nothing of it is in the way of a reading but one look at a flag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.outbox.times import STEP, Times
from gateway.timesync import Evidence, Sync

OFTEN, SELDOM = 0.5, 30.0
"""Seconds between two looks: while the clock is awaited, and while it is taken as it is."""


class Timekeeper:
    """Holds uplinks back for up to `hold` seconds while the clock is not set.

    `on_change` is called when they need not wait any longer, and when the card should be told of the clock.
    """

    def __init__(
        self, times: Times, evidence: Callable[[], Evidence], hold: float, on_change: Callable[[], None], logger: Any
    ) -> None:
        self._times = times
        self._evidence = evidence
        self._hold = hold
        self._on_change = on_change
        self._logger = logger
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0  # seconds since boot
        self._said: str | None = None  # what becomes of readings, as whoever reads the log knows it; None: all is well

    def open(self) -> None:
        """Look for the first time, and begin to wait."""
        self._until = self._times.now() + self._hold
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def held(self) -> float | None:
        """For how many seconds at most uplinks still have to wait; None: they need not."""
        return max(0.0, self._until - self._times.now()) if self._times.holding else None

    def look(self) -> None:
        """Look again whether the clock is set, and whether it has been waited for long enough."""
        before = self._times.sync, self._times.holding
        self._look()
        if (self._times.sync, self._times.holding) != before:
            self._on_change()

    def _look(self) -> None:
        times = self._times
        times.judge(self._evidence())
        times.holding = times.awaited and times.now() < self._until
        self._say()
        self.close()
        if times.sync is Sync.SET:
            return
        left = self._until - times.now()
        pause = min(OFTEN, left) if left > 0 else OFTEN if times.sync is Sync.UNSET else SELDOM
        self._timer = asyncio.get_running_loop().call_later(pause, self.look)

    def _say(self) -> None:
        """Tell whoever reads the log, once, what becomes of readings."""
        unset = self._times.sync is Sync.UNSET
        fate = f"wait for it, up to {self._hold:g} s" if self._times.holding else "go out, marked" if unset else None
        if fate == self._said:
            return
        self._said = fate
        if fate is not None:
            self._logger.warning(f"the clock {'is not' if unset else 'may not be'} set yet: readings {fate}")
        elif self._times.awaited:
            self._logger.info("nobody has set the clock: it is taken as it is")
        else:
            self._logger.info(_set_by(self._times.corrected))


def _set_by(seconds: float) -> str:
    if abs(seconds) < STEP:
        return "the clock is set"
    return f"the clock was set: it was {abs(seconds):.1f} s {'behind' if seconds > 0 else 'ahead'}"
