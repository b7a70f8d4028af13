"""The tasks of a service: they come and go, and the first one that fails ends all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Crew:
    """Starts tasks, and hears of those that fail. Made in a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Have this done."""
        task = self._loop.create_task(work, name=name)
        self.watch(task)
        return task

    def watch(self, task: asyncio.Task[None]) -> None:
        """Hear of it if this one fails."""
        task.add_done_callback(self._ended)

    async def until(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set. Raises what a task raises that should not."""
        stopping = self._loop.create_task(stop.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {stopping, self._failed}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await stopping

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)


async def end(*tasks: asyncio.Task[None], timeout: float | None = None) -> set[asyncio.Task[None]]:
    """Cancel tasks and wait until they are over; return those that are not after `timeout` seconds."""
    for task in tasks:
        task.cancel()
    return (await asyncio.wait(tasks, timeout=timeout))[1] if tasks else set()
