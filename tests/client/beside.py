"""A scripted broker on a loop of its own, for tests of clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from tests.scripted_broker import ScriptedBroker

T = TypeVar("T")


class Beside:
    """Use as `with`. `broker` may be looked at from any thread; what changes it goes through `do`."""

    def __init__(self, port: int = 0) -> None:
        self._port = port  # 0: a free one

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> ScriptedBroker:
            broker = ScriptedBroker(port=self._port)
            broker.deliver = True
            await broker.start()
            return broker

        self.broker = self.run(start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._gone())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _gone(self) -> None:
        await self.broker.stop()
        # A connection that came while it stopped is made, and dropped, by a task of the loop's own.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine on the broker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def do(self, call: Callable[[], T]) -> T:
        """Have something done on the broker's loop."""

        async def done() -> T:
            return call()

        return self.run(done())

    def soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something done on the broker's loop, and do not wait for it."""
        self._loop.call_soon_threadsafe(call, *arguments)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        self.run(self.broker.until(condition))
