"""Outboxes as a power cut or an orderly stop leaves them, with all that is true of them, to be damaged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.outbox import Outbox
from gateway.outbox.card.opening import log_of
from gateway.outbox.card.pages import Pages
from gateway.outbox.card.rows import block_sum
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.reading import Reading
from tests.outbox.following import take_all

UPLINKS = ("near", "far")
FRAME = 24 + PAGE_SIZE
LOG_HEADER = 32


@dataclass
class Image:
    """Files, and the truth about them."""

    folder: Path
    readings: dict[int, Reading] = field(default_factory=dict)  # all that were ever taken in
    waiting: dict[str, set[int]] = field(default_factory=dict)  # for each uplink, on the card
    epoch: int = 0
    durable: bool = False  # commit_interval was 0

    @property
    def path(self) -> Path:
        return self.folder / "outbox.db"

    def copy(self, folder: Path) -> Path:
        """Copy the files, and return the path of the database."""
        for file in self.folder.iterdir():
            shutil.copy(file, folder / file.name)
        return folder / "outbox.db"


def spans(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield (file, page, first byte, one past the last) for each page of the database and each frame of its log."""
    for at in range(path.stat().st_size // PAGE_SIZE):
        yield "db", at, at * PAGE_SIZE, (at + 1) * PAGE_SIZE
    if log_of(path).exists():
        for at in range((log_of(path).stat().st_size - LOG_HEADER) // FRAME):
            yield "log", at, LOG_HEADER + at * FRAME, LOG_HEADER + (at + 1) * FRAME


def blocks_of(path: Path) -> dict[int, int]:
    """Return {first id: last id} of the blocks that can be read."""
    found = {}
    with Pages(path, log_of(path)) as pages:
        for first, columns in pages.rows():
            if tuple(map(type, columns[1:])) == (int, int, int, bytes, int, int):
                last, count, crc, data = columns[1:5]
                if crc == block_sum(first, last, count, data):
                    found[first] = last
    return found


def spared(path: Path, touched: Collection[tuple[str, int]], scratch: Path) -> set[int]:
    """Return the ids of the blocks that can be read without these pages."""
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", f"{scratch}{suffix}")
    for file, page, start, end in list(spans(path)):
        if (file, page) in touched:
            wound(scratch if file == "db" else log_of(scratch), start, bytes(end - start))
    found = {one for first, last in blocks_of(scratch).items() for one in range(first, last + 1)}
    for suffix in ("", "-wal"):
        Path(f"{scratch}{suffix}").unlink(missing_ok=True)
    return found


def wound(path: Path, at: int, data: bytes) -> None:
    """Overwrite a piece of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def make(folder: Path, *, seed: int, interval: float = 1.0, clean: bool = False, thinned: bool = False) -> Image:
    """Let three runs take in readings, of which some arrive, and leave what they leave.

    `thinned`: there is not room enough for all.
    """
    dice = random.Random(seed)
    made, home = folder / "made", folder / "image"
    made.mkdir(parents=True)
    home.mkdir()
    image = Image(home, durable=interval == 0)
    path = made / "outbox.db"
    gone: dict[str, set[int]] = {name: set() for name in UPLINKS}
    max_size = 60_000 if thinned else 10**9
    for run in range(3):
        async with Outbox(path, UPLINKS, commit_interval=interval, max_size=max_size, when_full="thin") as outbox:
            for name in UPLINKS:
                outbox.follow(name).on_fate = lambda ids, _, name=name: gone[name].update(ids)  # type: ignore[misc]
            for _ in range(36 if thinned else 12):
                first = outbox._log.next_id
                for _ in range(dice.choice([1, 5, 40])):
                    values = {"n": outbox.taken_in, "noise": dice.randbytes(dice.choice([4, 60])).hex()}
                    outbox.put(dice.choice(["boiler", "weather"]), values)
                for one in outbox._log.tail.slice(first, outbox._log.next_id):
                    image.readings[one.id] = one._replace(boot=round(one.boot * 1e6) / 1e6)
                await outbox.flush()
                for name in UPLINKS:
                    feed = outbox.follow(name)
                    if (count := dice.randrange(2, 30)) < feed.account.waiting and dice.random() < 0.6:
                        ids = [one.id for one in await take_all(feed, count)]
                        feed.acknowledged(ids[1:])
                        if dice.random() < 0.2:
                            feed.quarantine(ids[:1], "too-big")
                        else:
                            feed.left(ids[:1])
            await outbox.flush()
            image.epoch = outbox.epoch
            for name in UPLINKS:
                image.waiting[name] = image.readings.keys() - gone[name]
                assert len(image.waiting[name]) == outbox.follow(name).account.waiting
            if run == 2 and not clean:
                copy(made, home)
    if clean:
        copy(made, home)
    return image


def copy(made: Path, home: Path) -> None:
    for name in ("outbox.db", "outbox.db-wal", "outbox.db.mark"):
        if (made / name).exists():
            shutil.copy(made / name, home / name)


@contextmanager
def untouched(*paths: Path) -> Iterator[None]:
    """Check that these files stay as they are."""
    before = [path.read_bytes() for path in paths]
    yield
    assert [path.read_bytes() for path in paths] == before
