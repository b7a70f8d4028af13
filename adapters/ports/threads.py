"""Calls that may block, such as the opening of a port, in a thread that neither the loop nor the exit waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], discard: Callable[[T], None]) -> T:
    """Return what `call` returns, or raise what it raises, from a daemon thread of its own.

    When this is cancelled before the answer is there, the thread is left alone, and gives the answer to `discard` when
    it comes; an answer that is already there is given to `discard` before the cancellation goes on. The loop's own
    executor would hold up the end of the process until the call returns.
    """
    loop = asyncio.get_running_loop()
    awaited = _Awaited(discard)
    ended: asyncio.Future[None] = loop.create_future()
    failures: list[BaseException] = []

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def work() -> None:
        try:
            answer = call()
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            failures.append(error)
        else:
            awaited.came(answer)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end)

    threading.Thread(target=work, name=f"in-thread-{getattr(call, '__name__', 'call')}", daemon=True).start()
    try:
        await ended
    except BaseException:
        awaited.abandon()
        raise
    if failures:
        raise failures.pop()
    return awaited.take()


class _Awaited(Generic[T]):
    """An answer that is handed from a thread to a coroutine, or thrown away, exactly once, whenever that one leaves.

    It does not take a turn of the loop: a loop that is closed first would leave the answer to nobody.
    """

    def __init__(self, discard: Callable[[T], None]) -> None:
        self._discard = discard
        self._lock = threading.Lock()
        self._answers: list[T] = []
        self._is_abandoned = False

    def came(self, answer: T) -> None:
        """Keep the answer for whoever waits; called by the thread."""
        with self._lock:
            if not self._is_abandoned:
                self._answers.append(answer)
                return
        self._discard(answer)

    def take(self) -> T:
        """Return the answer."""
        with self._lock:
            return self._answers.pop()

    def abandon(self) -> None:
        """Wait no more."""
        with self._lock:
            self._is_abandoned = True
            left, self._answers = self._answers, []
        for answer in left:
            self._discard(answer)
