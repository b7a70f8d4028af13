"""A gateway's outbox that is killed by itself at a chosen step: `python -m tests.faults.killed DATABASE METHOD N`.

It takes in ten readings, has five of them delivered, and goes on until all is known of what earlier runs have left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.outbox import Outbox, recall
from gateway.outbox.card import pages, salvage, walk
from tests.outbox.following import ids_of, until


def at_the(n: int, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method, at whose n-th call the process is killed."""
    calls = 0

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **named)

    return called


async def main(path: Path, method: str, n: int) -> None:
    """Run until it is killed, or all is known."""
    recall.STEP, salvage.ROWS, walk.ROWS, pages.CHUNK = 0.0, 7, 7, 4096
    outbox = Outbox(path, ["cloud"], commit_interval=0.05)
    store = outbox._store
    assert store is not None
    store._seconds = 0.0
    setattr(store, method, at_the(n, getattr(store, method)))
    async with outbox:
        feed = outbox.follow("cloud")
        feed.begin_live()
        for count in range(10):
            outbox.put("boiler", {"n": count})
        await outbox.flush()
        live = feed.take(5, backlog=0)
        print(*ids_of(live))
        feed.acknowledged(ids_of(live))
        await outbox.flush()
        print("acknowledged", flush=True)
        await until(lambda: not outbox.hidden, 60)
        print("known", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
