"""The one thread that owns SQLite: jobs in, in order; results back into the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Writer:
    """A daemon thread: a card that hangs must not keep the process from ending."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread for the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="outbox-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Have `job` called in the thread, after all submitted before. It is done even if the future is cancelled."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    async def stop(self, timeout: float) -> bool:
        """End the thread after its last job; return whether it ended within `timeout` seconds."""
        if self._thread is None:
            return True
        done = self.submit(lambda: None)
        self._jobs.put(None)
        await asyncio.wait([done], timeout=timeout)
        if not done.done():
            done.cancel()
            return False
        self._thread.join(timeout)
        self._thread = None
        return True

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, future = entry
            result: Any = None
            error: BaseException | None = None
            try:
                result = job()
            except BaseException as raised:  # noqa: BLE001 (carried to whoever submitted it)
                error = raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del job, future, entry, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
