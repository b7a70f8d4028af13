"""Outboxes with known contents, and the command line that looks at them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.clock import Clock
from gateway.outbox import Outbox
from gateway.reading import Publication
from tests.outbox.following import take_all

NOON = 1_763_640_000.0
"""2025-11-20, 12:00 UTC."""


class Hands:
    """A clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.boot = 1000.0

    @property
    def clock(self) -> Clock:
        """The clock, as an outbox takes it."""
        return Clock(boot=lambda: self.boot, wall=lambda: self.boot - 1000.0 + NOON, boot_id="this boot")


async def filled(path: Path) -> None:
    """Make an outbox for two uplinks.

    Of six readings, `cloud` has the first, never gets the second, and has set two aside; `near` waits for all of them.
    """
    hands = Hands()
    async with Outbox(path, ["cloud", "near"], clock=hands.clock) as outbox:
        for n in range(1, 7):
            hands.boot += 1.0
            outbox.put("boiler" if n < 5 else "meter", {"n": n, "on": n % 2 == 0, "text": f"nr. {n}"})
        feed = outbox.follow("cloud")
        one, two, three, four, *_ = await take_all(feed, 6)
        feed.acknowledged([one.id])
        feed.rejected([two.id], "rejected")
        feed.quarantine([three.id], "poison")
        feed.quarantine([four.id], "packet too large: 0x95")
        await outbox.flush()


async def published(path: Path) -> None:
    """Make an outbox with a program's messages."""
    async with Outbox(path, ["client"], clock=Hands().clock) as outbox:
        outbox.accept(Publication("site/door", "öffen".encode()))
        outbox.accept(Publication("site/raw", b"\xff\x00", 2, True))


def make(path: Path) -> Path:
    """Have `filled` done from outside a loop."""
    asyncio.run(filled(path))
    return path


def command(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `sensor-gateway outbox` in a process of its own."""
    whole: Sequence[str] = [sys.executable, "-m", "gateway", "outbox", *map(str, arguments)]
    environ = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(whole, env=environ, capture_output=True, text=True, timeout=60, input=stdin, check=False)
