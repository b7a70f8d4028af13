"""Calls that block, on daemon threads of their own: neither the loop nor the end of the process waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

# Calls that have not returned. Who asks for the same meanwhile waits for the same answer, so a name server that is
# silent for minutes costs one thread for each name and not one for each attempt.
_running: dict[Hashable, Future[Any]] = {}


async def aside(key: Hashable, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises, without blocking the loop; an equal `key` shares one call.

    When the one who waits is cancelled, the call goes on, and nobody minds its end.
    """
    fresh: Future[T] = Future()
    answer: Future[T] = _running.setdefault(key, fresh)
    if answer is fresh:
        fresh.set_running_or_notify_cancel()  # from here nobody who waits can cancel it for the others
        Thread(target=_run, args=(key, call, fresh), name="mqtt aside", daemon=True).start()
    return await asyncio.wrap_future(answer)


def _run(key: Hashable, call: Callable[[], T], answer: Future[T]) -> None:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - the boundary of the thread: whoever waits gets it
        del _running[key]
        answer.set_exception(error)
    else:
        del _running[key]
        answer.set_result(result)
