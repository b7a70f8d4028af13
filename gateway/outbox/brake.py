"""The brake: a device that floods waits until the uplinks, or else the card, have made room in memory."""

from __future__ import annotations

import asyncio

from gateway.outbox.keeper import Keeper
from gateway.outbox.log import Log

ROOM = 8000
"""Readings of one stream that may exist only in memory; beyond that its device waits."""
PATIENCE = 0.05
"""Seconds that a device waits for the uplinks to make room before the card has to."""


class Brake:
    """Holds the devices whose streams have `ROOM` readings only in memory, until half of them are not."""

    def __init__(self, log: Log, keeper: Keeper) -> None:
        self._log = log
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._rooms: dict[str, asyncio.Future[None]] = {}  # what the devices of these streams wait for
        self._pressing: asyncio.TimerHandle | None = None

    @property
    def holds(self) -> bool:
        """Whether there is anybody who waits."""
        return bool(self._rooms)

    def hold(self, stream: str) -> asyncio.Future[None]:
        """Return what the device of a stream has to wait for."""
        room = self._rooms.get(stream)
        if room is None or room.done():
            room = self._rooms[stream] = self._loop.create_future()
        if self._pressing is None:
            self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)
        return room

    def loosen(self) -> None:
        """Let those go on for whom there is room now."""
        for stream, room in list(self._rooms.items()):
            # While the card fails, no device has to wait for it: memory_limit is the bound then.
            if self._log.pending[stream] < ROOM // 2 or self._keeper.fault is not None:
                del self._rooms[stream]
                if not room.done():
                    room.set_result(None)

    def close(self) -> None:
        """Press for no more room."""
        if self._pressing is not None:
            self._pressing.cancel()

    def _press(self, secured: int) -> None:
        """If the uplinks have made no room for a while, the card has to."""
        self._pressing = None
        if self._rooms:
            if self._log.secured == secured:
                self._keeper.begin()
            self._pressing = self._loop.call_later(PATIENCE, self._press, self._log.secured)
