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

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> ScriptedBroker:
            broker = ScriptedBroker()
            broker.deliver = True
            await broker.start()
            return broker

        self.broker = self.run(start())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.broker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine on the broker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def do(self, call: Callable[[], T]) -> T:
        """Have something done on the broker's loop."""

        async def done() -> T:
            return call()

        return self.run(done())

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        self.run(self.broker.until(condition))
