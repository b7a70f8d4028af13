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
        self._wrong = False  # whoever reads the log has been told that it is not set

    def open(self) -> None:
        """Look for the first time, and begin to wait."""
        times = self._times
        times.judge(self._evidence())
        self._until = times.now() + self._hold
        if times.awaited:
            times.holding = self._hold > 0
            self._wrong = True
            waiting = f"readings wait up to {self._hold:g} s for it" if times.holding else "readings go out at once"
            self._logger.warning(f"the clock is not set yet: {waiting}, and carry bounds if it is not set by then")
        self._schedule()

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
        times = self._times
        before, held = times.sync, times.holding
        times.judge(self._evidence())
        times.holding = held and times.awaited and times.now() < self._until
        if self._wrong and not times.awaited:
            self._wrong = False
            self._logger.info(_set_by(times.corrected))
        elif not self._wrong and times.sync is Sync.UNSET:
            self._wrong = True
            self._logger.warning("the clock is certainly wrong now: readings are marked, and carry bounds")
        elif held and not times.holding and times.sync is Sync.UNSET:
            self._logger.warning("the clock is still not set: readings go out, marked, and carry bounds")
        if held is not times.holding or before is not times.sync:
            self._on_change()
        self._schedule()

    def _schedule(self) -> None:
        self.close()
        if self._times.sync is Sync.SET:
            return
        pause = OFTEN if self._times.awaited else SELDOM
        if self._times.holding:
            pause = min(pause, max(0.0, self._until - self._times.now()))
        self._timer = asyncio.get_running_loop().call_later(pause, self.look)


def _set_by(seconds: float) -> str:
    if abs(seconds) < STEP:
        return "the clock is set"
    return f"the clock was set: it was {abs(seconds):.1f} s {'behind' if seconds > 0 else 'ahead'}"
