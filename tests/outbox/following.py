"""What tests of the outbox share: messages, a follower that takes them, and a power cut."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.outbox import Feed
from gateway.reading import Publication, Reading


async def until(condition: Callable[[], bool], deadline: float = 10.0) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0)


def message(n: int = 0, size: int = 10) -> Publication:
    return Publication(f"t/{n % 3}", n.to_bytes(4, "big") + bytes(size))


def ids_of(readings: Sequence[Reading]) -> list[int]:
    return [reading.id for reading in readings]


async def take_all(feed: Feed, count: int) -> list[Reading]:
    """Take `count`, also from the card."""
    ready = asyncio.Event()
    feed.on_ready(ready.set)
    got: list[Reading] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            ready.clear()
            if readings := feed.take(count - len(got)):
                got += readings
            else:
                await ready.wait()
    return got


def crashed(path: Path, name: str) -> Path:
    """Return a copy of the file as a power cut at this moment would leave it."""
    copy = path.with_name(name)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


class Fates:
    """What the outbox told about each id."""

    def __init__(self, feed: Feed) -> None:
        self.told: dict[int, str | None] = {}
        feed.on_fate = self.tell

    def tell(self, ids: Sequence[int], reason: str | None) -> None:
        for one in ids:
            assert one not in self.told, "once"
            self.told[one] = reason
