"""Keep a device's windows: close each when it is over, and remember the open ones across restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from structlog.typing import FilteringBoundLogger

from gateway.clock import read_boot_id
from gateway.devices.memory import Memory
from gateway.devices.metrics import Windows
from gateway.devices.metrics.plan import Span
from gateway.reading import Value

# The values, and the UTC time at which they were measured, if that is not now.
Send: TypeAlias = Callable[[dict[str, Value], float | None], object]

LATE = 1.0
"""Seconds after its end from which on the result of a window has the time of that end, as far as it is known."""
_SOON = 0.001  # seconds: a timer may go off a little early


class Aggregating:
    """`async with Aggregating(...)`: goes on with the windows of the run before, and remembers those that are open.

    `send` gets what each window came to, once it is over. `path` is where open windows are remembered; None: nowhere.
    """

    def __init__(
        self,
        name: str,
        spans: Mapping[str, Span],
        send: Send,
        path: Path | None,
        log: FilteringBoundLogger,
        *,
        boot: Callable[[], float],
        wall: Callable[[], float] = time.time,
        boot_id: str | None = None,
    ) -> None:
        self._name = name
        self._windows = Windows(spans)
        # A device can have no "+" in its name, so that the file is nobody else's.
        self._memory = Memory(path.with_name(f"{path.stem}+windows.json") if path and spans else None, name, log)
        self._send = send
        self._log = log
        self._boot = boot
        self._wall = wall
        self._boot_id = read_boot_id() if boot_id is None else boot_id
        self._timer: asyncio.TimerHandle | None = None
        # What is remembered: it goes on changing, and is read when it is written.
        self._contents: dict[str, Any] = {**self._windows.contents(), "boot_id": self._boot_id, "saved": None}

    async def __aenter__(self) -> Self:
        await self._memory.__aenter__()
        if contents := self._memory.load():
            self._resume(contents)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._memory.__aexit__(kind, error, trace)

    def add(self, values: Mapping[str, float], now: float) -> None:
        """Take values into their windows, `now` seconds after boot."""
        if now >= self._windows.end:
            self._close(now)
        end = self._windows.end
        for name, value in values.items():
            self._windows.add(name, value, now)
        if self._windows.end != end:
            self._arm()
        self._save()

    def finish(self) -> None:
        """Close all windows, because nothing more will come."""
        if self._windows.end < inf:
            self._close(inf)

    def _close(self, now: float) -> None:
        for end, values in self._windows.close(now):
            late = self._boot() - end
            if values:
                self._send(values, self._wall() - late if late > LATE else None)
        self._save()

    def _save(self) -> None:
        self._contents["saved"] = self._wall()
        self._memory.save(self._contents)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._windows.end < inf:
            wait = max(self._windows.end - self._boot(), _SOON)
            self._timer = asyncio.get_running_loop().call_later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        self._close(self._boot())
        self._arm()

    def _resume(self, contents: Mapping[str, Any]) -> None:
        """Go on where the run before has ended. Windows of an earlier boot are closed: nothing can be added to them."""
        strange = self._windows.restore(contents)
        if strange:
            self._log.warning(f"{self._name}: {strange} open windows given up: they are no longer declared like that")
        if contents.get("boot_id") == self._boot_id:
            self._close(self._boot())
            self._arm()
            return
        for _, values in self._windows.close(inf):
            if values:
                self._send(values, contents.get("saved"))  # the best that is known
        self._windows.forget_boot()
        self._save()
