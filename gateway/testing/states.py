"""Every state in which a coroutine and the tasks that it starts can be found waiting, one after the other."""

from __future__ import annotations

import asyncio
import selectors
import time
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any


class Suspensions:
    """As a task factory: counts how often tasks begin to wait, and calls `then` when it is the time number `wanted`.

    Times are counted from 0 on, over all tasks that the loop starts while this is its factory.
    """

    def __init__(self, wanted: int, then: Callable[[], None]) -> None:
        self.count = 0
        self._wanted = wanted
        self._then = then

    @property
    def reached(self) -> bool:
        """Whether `then` was called."""
        return self.count > self._wanted

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **more: Any
    ) -> asyncio.Task[Any]:
        """Make a task of a coroutine, as `loop.set_task_factory` asks for it."""

        async def watched() -> Any:
            return await self._stepped(coro)

        task = asyncio.Task(watched(), loop=loop, **more)
        task.add_done_callback(lambda _: coro.close())  # one that is cancelled before its first step never ran
        return task

    @types.coroutine
    def _stepped(self, coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any]) -> Generator[Any, Any, Any]:
        try:
            waiting = coro.send(None)
            while True:
                self._waits()
                try:
                    answer = yield waiting
                except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, as await does
                    waiting = coro.throw(error)
                else:
                    waiting = coro.send(answer)
        except StopIteration as end:
            return end.value

    def _waits(self) -> None:
        self.count += 1
        if self.count == self._wanted + 1:
            self._then()


def starved() -> float:
    """Return for how many seconds this thread could have run in its life, and the machine had no CPU for it.

    Source: the second field of schedstat, Documentation/scheduler/sched-stats.rst of the kernel. 0 where there is none.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except OSError:
        return 0.0


class StallWatch(selectors.DefaultSelector):
    """A selector that knows the longest time, in seconds, for which its loop has done nothing but one turn of work.

    What counts is the work itself and what it waits for; not for how long the machine had no CPU for this thread, so
    that a busy machine is not taken for a busy adapter.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, waited: Callable[[], float] = starved) -> None:
        super().__init__()
        self.longest = 0.0
        self._clock = clock
        self._waited = waited
        self._since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as ever, and measure what was between two waits."""
        if self._since is not None:
            self.longest = max(self.longest, self._spent() - self._since)
        try:
            return super().select(timeout)
        finally:
            self._since = self._spent()

    def _spent(self) -> float:
        return self._clock() - self._waited()
