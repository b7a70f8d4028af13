"""Reading acknowledgements in company: to wake up for each of a few costs more than all the rest of sending."""

from __future__ import annotations

import asyncio

from gateway.mqtt.gate import Gate

# Messages in flight up to which acknowledgements may wait; of a small window, a quarter.
FEW = 64


class Doze:
    """Shuts a gate for at most `lag` seconds, while few messages are in flight."""

    def __init__(self, lag: float, gate: Gate) -> None:
        self._lag = lag
        self._gate = gate
        self._few = -1  # not open yet
        self._alarm: asyncio.TimerHandle | None = None

    def open(self, window: int) -> None:
        """Begin, on an open link with this window."""
        self._few = min(FEW, window // 4)

    def sent(self, in_flight: int) -> None:
        """Take note that something was sent, and that so many messages are in flight now."""
        if in_flight > self._few:
            self.end()
        elif self._alarm is None and self._lag:
            self._gate.shut("doze")
            self._alarm = asyncio.get_running_loop().call_later(self._lag, self.end)

    def end(self) -> None:
        """Read again."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._gate.open("doze")

    def close(self) -> None:
        """Never doze again."""
        self._few = -1
        self.end()
