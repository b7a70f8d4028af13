"""Something that runs until Ctrl-C, for a while, or until it is enough."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any


async def until_stopped(
    work: Coroutine[Any, Any, Any],
    stop: asyncio.Event,
    seconds: float | None = None,
    around: AbstractContextManager[Any] | None = None,
) -> None:
    """Run `work` until it ends, until SIGINT or SIGTERM, `stop`, or the end of `seconds`. Raises what it raises.

    `around` is entered when it begins, and so is what it sees of context variables.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with around or nullcontext():
        task = asyncio.create_task(work)
    task.add_done_callback(lambda _: stop.set())
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if not task.cancelled():
        task.result()
