"""Reading acknowledgements in company: to wake up for each of a few costs more than all the rest of sending."""

from __future__ import annotations

import asyncio

from gateway.mqtt.gate import Gate

# Messages in flight up to which acknowledgements may wait; of a small window, a quarter.
FEW = 64
# A broker in the middle of a flood answers message by message: after a read of fewer bytes than this, with more than a
# quarter of the window in flight, the next one comes after a breath. The window keeps the broker busy meanwhile.
LITTLE = 512
BREATH = 0.001
"""Seconds."""


class Doze:
    """Shuts a gate for at most `lag` seconds while few messages are in flight, and for a breath while many are."""

    def __init__(self, lag: float, gate: Gate) -> None:
        self._lag = lag
        self._gate = gate
        self._few = -1  # not open yet
        self._many = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._breath: asyncio.TimerHandle | None = None

    def open(self, window: int) -> None:
        """Begin, on an open link with this window."""
        self._few = min(FEW, window // 4)
        self._many = max(FEW, window // 4)

    def sent(self, in_flight: int) -> None:
        """Take note that something was sent, and that so many messages are in flight now."""
        if in_flight > self._few:
            self._wake()
        elif self._alarm is None and self._lag:
            self._gate.shut("doze")
            self._alarm = asyncio.get_running_loop().call_later(self._lag, self._wake)

    def came(self, size: int, in_flight: int) -> None:
        """Take note that so many bytes have come, and that so many messages are in flight now."""
        if size < LITTLE and in_flight > self._many and self._few >= 0 and self._breath is None:
            self._gate.shut("breath")
            self._breath = asyncio.get_running_loop().call_later(BREATH, self._breathed)

    def end(self) -> None:
        """Read again."""
        self._wake()
        self._breathed()

    def close(self) -> None:
        """Never doze again."""
        self._few = -1
        self.end()

    def _wake(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._gate.open("doze")

    def _breathed(self) -> None:
        if self._breath is not None:
            self._breath.cancel()
            self._breath = None
            self._gate.open("breath")
