"""Waiting for what has no event of its own: a process, a socket, a kernel buffer."""

from __future__ import annotations

import time
from collections.abc import Callable

# Between two looks; short against every deadline in these tests, and cheap.
PAUSE = 0.002


def until(predicate: Callable[[], object], seconds: float, what: str) -> float:
    """Return the seconds it took until `predicate()` was true. Raises TimeoutError naming `what` after `seconds`."""
    began = time.monotonic()
    while not predicate():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(PAUSE)
    return time.monotonic() - began
