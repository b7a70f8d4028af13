"""Random damages of an outbox on the card: `python -m tests.faults.damage [cases] [seed]`.

Whatever is there, the gateway starts, sends what can be read, once, and the ledger explains the rest.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.outbox import Loss, Outbox, OutboxError
from gateway.outbox.card.aside import KEPT, unfinished
from gateway.outbox.card.earlier import AT_START
from gateway.outbox.card.opening import log_of
from gateway.outbox.card.pages import read_log
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.reading import Reading
from tests.faults.images import FRAME, LOG_HEADER, UPLINKS, Image, make, spans, spared, untouched, wound
from tests.outbox.following import take_all, until

STARTS = 5.0
"""Seconds within which the gateway has started."""
SHM = Path("/dev/shm")
KINDS = ("flip", "flips", "zero", "noise", "swap", "cut", "foreign", "text", "empty", "gone", "newer", "nothing")


class Damage:
    """What was done to the files of an image, and which pages it has touched."""

    def __init__(self, path: Path, image: Image, kind: str, dice: random.Random) -> None:
        self.kind = kind
        self.touched: set[tuple[str, int]] = set()
        log = log_of(path)
        has_log = log.exists()
        self.file = dice.choice(["db", "log"]) if has_log else "db"
        target = path if self.file == "db" else log
        frames = (log.stat().st_size - LOG_HEADER) // FRAME if has_log else 0
        if kind in ("flip", "flips"):
            for _ in range(1 if kind == "flip" else dice.randint(2, 40)):
                at = dice.randrange(target.stat().st_size)
                byte = target.read_bytes()[at]
                self.wound(target, at, bytes([byte ^ 1 << dice.randrange(8)]))
        elif kind in ("zero", "noise"):
            for _ in range(dice.randint(1, 3)):
                size = dice.choice([512, PAGE_SIZE, 4096])
                at = dice.randrange(target.stat().st_size) // size * size
                self.wound(target, at, bytes(size) if kind == "zero" else dice.randbytes(size))
        elif kind == "swap":
            pages = [span for span in spans(path) if span[0] == self.file]
            one, other = dice.choice(pages), dice.choice(pages)
            data = target.read_bytes()
            self.wound(target, one[2], data[other[2] : other[3]])
            self.wound(target, other[2], data[one[2] : one[3]])
        elif kind == "cut":
            size = target.stat().st_size
            keep = dice.randrange(size)
            self.touch(keep, size)
            with target.open("r+b") as file:
                file.truncate(keep)
        elif kind in ("foreign", "text", "empty", "gone"):
            self.file = "db"
            self.touch(0, path.stat().st_size)
            path.unlink()
            if has_log and dice.random() < 0.5:
                self.file = "log"
                self.touch(0, log.stat().st_size)
                log.unlink()
            self.replace(path, dice)
        elif kind == "newer":
            with sqlite3.connect(path) as db:
                row = ("sensor-gateway-outbox", "m004_later", "2030")
                db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)", row)
            db.close()

        self.hit_end = ("log", frames - 1) in self.touched
        if self.is_silent:  # what is left of a transaction is nothing: it looks as if it had never been completed
            self.touched |= {("log", frame) for frame in range(read_log(log).used, frames)}

    def replace(self, path: Path, dice: random.Random) -> None:
        if self.kind == "text":
            path.write_bytes(dice.choice([b"these are my notes\n" * 500, dice.randbytes(5000), bytes(5000)]))
        elif self.kind == "empty":
            path.touch()
        elif self.kind == "foreign":
            elsewhere = path.with_name("foreign.db")
            with sqlite3.connect(elsewhere) as db:
                db.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
                db.executemany("INSERT INTO mine (a, b) VALUES (?, ?)", [("x", "[[0,1]]")] * 100)
            db.close()
            elsewhere.rename(path)

    def wound(self, target: Path, at: int, data: bytes) -> None:
        data = data[: target.stat().st_size - at]
        wound(target, at, data)
        self.touch(at, at + len(data))

    def touch(self, start: int, end: int) -> None:
        if self.file == "db":
            self.touched |= {("db", page) for page in range(start // PAGE_SIZE, (end - 1) // PAGE_SIZE + 1)}
        else:
            first, last = ((at - LOG_HEADER) // FRAME for at in (start, end - 1))
            self.touched |= {("log", frame) for frame in range(max(0, first), last + 1)}

    @property
    def is_silent(self) -> bool:
        """Whether it has hit the end of the log, where it looks like a transaction that was never completed."""
        return self.file == "log" and (self.kind in ("cut", "foreign", "text", "empty", "gone") or self.hit_end)

    def spares(self, image: Image) -> set[int]:
        """Return the ids of all blocks that are still there whole: no page that they need was touched."""
        return spared(image.path, self.touched, image.folder.parent / "scratch.db")


async def check(path: Path, image: Image, damage: Damage, seconds: float) -> str:
    """Start on what is there, take all, and hold it against the truth; return in a word what was found.

    `seconds` that the start has to look through it; the rest comes later.
    """
    if damage.kind == "newer":
        with untouched(path), pytest.raises(OutboxError, match="newer version"):
            async with Outbox(path, UPLINKS):
                pass
        return "refused"
    began = time.monotonic()
    outbox = Outbox(path, UPLINKS)
    assert outbox._store is not None
    outbox._store._seconds = seconds
    async with outbox:
        took = time.monotonic() - began
        assert took < STARTS, f"it took {took:.1f} s to start"
        assert outbox.epoch > image.epoch, "no epoch is used twice"
        one = outbox._log.next_id
        outbox.put("boiler", {"n": -1})
        await until(lambda: not outbox.hidden)
        got: dict[str, list[Reading]] = {}
        for name in UPLINKS:
            feed = outbox.follow(name)
            got[name] = await everything(feed)
            assert got[name][-1].id == one > max(image.readings), "what comes is taken in as ever, and no id twice"
            feed.acknowledged([reading.id for reading in got[name]])
            assert feed.account.waiting == 0
        await outbox.flush()
        await until(lambda: not unfinished(path))
        losses = await outbox.ledger()
    whole = damage.spares(image)
    for name in UPLINKS:
        verify(name, got[name][:-1], losses, image, damage, whole)
    async with Outbox(path, UPLINKS) as outbox:
        assert [outbox.follow(name).account.waiting for name in UPLINKS] == [0, 0]
        assert len(await outbox.ledger()) == len(losses), "said once"
    aside = [file for file in path.parent.iterdir() if ".damaged-" in file.name and not file.name.endswith("-wal")]
    assert len(aside) <= KEPT
    if any(file for file in path.parent.iterdir() if ".foreign-" in file.name):
        return "foreign"
    return "salvaged" if aside else "went on"


async def everything(feed: object) -> list[Reading]:
    """Take all that is there; what is damaged may vanish meanwhile."""
    got: list[Reading] = []
    while True:
        left = feed.account.waiting - len(got)  # type: ignore[attr-defined]
        if left <= 0:
            return got
        got += await take_all(feed, 1)  # type: ignore[arg-type]
        got += feed.take(left)  # type: ignore[attr-defined]


def verify(
    name: str, got: Sequence[Reading], losses: Iterable[Loss], image: Image, damage: Damage, whole: set[int]
) -> None:
    """Every reading is a true one, comes once, and what does not come is explained."""
    ids = [reading.id for reading in got]
    assert len(ids) == len(set(ids)), "once"
    for reading in got:
        assert reading == image.readings[reading.id], "as it was"
    missing = image.waiting[name] - set(ids)
    assert not missing & whole, "what is whole is sent"
    mine = [loss for loss in losses if loss.uplink == name]
    found = [loss for loss in mine if loss.reason in ("disk-error", "went-back", "crash-window")]
    again = set(ids) - image.waiting[name]
    if damage.is_silent and image.durable:
        return  # as if the last transactions had never been: a card that lies
    assert not again or found, "what was delivered is sent again only if that was forgotten, and it is said"
    unexplained = Counter(
        image.readings[one].epoch for one in missing if not any(explains(loss, image.readings[one]) for loss in mine)
    )
    for epoch, count in unexplained.items():
        counted = sum(loss.count for loss in mine if (loss.stream, loss.epoch) == ("?", epoch))
        assert counted >= count, f"{count} readings of epoch {epoch} are missing, and the ledger names {counted}"


def explains(loss: Loss, reading: Reading) -> bool:
    """Say whether an entry tells of this very reading, or of an unknown number that it may be among."""
    if loss.epoch != reading.epoch or loss.stream not in ("?", reading.stream):
        return False
    if loss.count == 0:
        return loss.stream == "?" or loss.first_seq <= reading.seq
    return loss.stream != "?" and not loss.is_sparse and loss.first_seq <= reading.seq <= loss.last_seq


async def run(cases: int, seed: int, folder: Path) -> Counter[str]:
    """Try so many damages; return what was found. Raises AssertionError."""
    images = [
        await make(folder / "crashed", seed=seed),
        await make(folder / "durable", seed=seed + 1, interval=0.0),
        await make(folder / "stopped", seed=seed + 2, clean=True),
        await make(folder / "thinned", seed=seed + 3, thinned=True),
    ]
    outcomes: Counter[str] = Counter()
    for number in range(cases):
        dice = random.Random(f"{seed}/{number}")
        image, kind = images[number % len(images)], KINDS[number // len(images) % len(KINDS)]
        home = folder / "case"
        home.mkdir()
        path = image.copy(home)
        damage = Damage(path, image, kind, dice)
        try:
            outcomes[f"{kind}: {await check(path, image, damage, dice.choice([0.0, AT_START]))}"] += 1
        except BaseException:
            pages = sorted(damage.touched)[:20]
            print(f"seed {seed}, case {number}: {kind} of {image.folder.parent.name}, {pages}, in {home}")
            raise
        shutil.rmtree(home)
    return outcomes


def main() -> None:
    """Run from the command line."""
    cases, seed = (int(word) for word in [*sys.argv[1:], "500", "1"][:2])
    with capture_logs(), tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        outcomes = asyncio.run(run(cases, seed, Path(folder)))
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6} {outcome}")


if __name__ == "__main__":
    main()
