"""Reading acknowledgements in company: to wake up for each of a few costs more than all the rest of sending."""

from __future__ import annotations

import asyncio

# Messages in flight up to which acknowledgements may wait; of a small window, a quarter.
FEW = 64


class Doze:
    """Stops a transport from reading for at most `lag` seconds, while few messages are in flight."""

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._few = 0
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def open(self, transport: asyncio.Transport, window: int) -> None:
        """Take charge of an open link's transport."""
        self._transport = transport
        self._few = min(FEW, window // 4)

    @property
    def active(self) -> bool:
        """Whether the transport does not read because of this."""
        return self._alarm is not None

    def sent(self, in_flight: int) -> None:
        """Take note that something was sent, and that so many messages are in flight now."""
        if in_flight > self._few:
            self.end()
        elif self._alarm is None and self._lag and self._transport is not None:
            self._transport.pause_reading()
            self._alarm = asyncio.get_running_loop().call_later(self._lag, self.end)

    def end(self) -> None:
        """Read again."""
        if self._alarm is not None and self._transport is not None:
            self._alarm.cancel()
            self._alarm = None
            self._transport.resume_reading()

    def close(self) -> None:
        """Leave the transport alone from now on."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._transport = None
