"""Calls that may block, such as the opening of a port, in a thread that neither the loop nor the exit waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], discard: Callable[[T], None]) -> T:
    """Return what `call` returns, or raise what it raises, from a daemon thread of its own.

    When this is cancelled before the answer is there, the thread is left alone, and `discard` is given the answer when
    it comes. The loop's own executor would hold up the end of the process until the call returns.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def resolve(result: T) -> None:
        if answer.cancelled():
            discard(result)
        else:
            answer.set_result(result)

    def reject(error: BaseException) -> None:
        if not answer.cancelled():
            answer.set_exception(error)

    def work() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is awaited
            _tell(loop, reject, error)
        else:
            if not _tell(loop, resolve, result):
                discard(result)

    threading.Thread(target=work, name=f"in-thread-{getattr(call, '__name__', 'call')}", daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        # The answer may have come in the same turn of the loop as the cancellation.
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            discard(answer.result())
        raise


def _tell(loop: asyncio.AbstractEventLoop, listener: Callable[[T], None], news: T) -> bool:
    try:
        loop.call_soon_threadsafe(listener, news)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return False
    return True
