"""The life of an outbox on a card that fails at one point of it: whatever happens, the account is right."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.selftest.card import Card
from gateway.outbox import Feed, Outbox, OutboxError

Fault = Callable[[str, int], int]


@dataclass
class Life:
    """What was taken in, and what became of it, over all runs."""

    folder: Path
    durable: bool = False
    taken_in: set[tuple[int, int]] = field(default_factory=set)  # (epoch, seq)
    delivered: set[tuple[int, int]] = field(default_factory=set)
    aside: set[tuple[int, int]] = field(default_factory=set)  # in quarantine
    rejected: set[tuple[int, int]] = field(default_factory=set)
    points: int = 0  # operations before the card is well again
    refused: int = 0  # starts
    unclean: bool = False  # something that was only in memory could not be written before the end

    @property
    def path(self) -> Path:
        return self.folder / "outbox.db"

    def outbox(self) -> Outbox:
        return Outbox(self.path, ["cloud"], commit_interval=0.0 if self.durable else 3600.0)


STEPS = 10


async def live(
    life: Life, card: Card, fault: Fault | None = None, *, heals: bool = True, opening: bool = False
) -> None:
    """Take in, deliver some, stop; start, deliver the rest, stop.

    The card has its fault from the beginning (`opening`) or once the outbox is open. `heals`: it is well before the
    first stop; else after it.
    """
    try:
        if opening:
            card.restart(fault)
        async with life.outbox() as outbox:
            if not opening:
                card.restart(fault)
            feed = outbox.follow("cloud")
            for step in range(STEPS):
                put(life, outbox, 30)
                await outbox.flush()
                check(outbox)
                if step % 2:
                    deliver(life, feed, 25)
                    refuse(life, feed)
            life.points = len(card.operations)
            if heals:
                card.heal()
                stored = asyncio.create_task(outbox.stored(outbox._log.next_id - 1))
                await settled(outbox)
                await asyncio.wait_for(stored, 10)
                assert outbox.fault is None, "the card is used again"
            check(outbox)
        life.unclean = bool(card.failed) and not heals
    except OutboxError:
        life.refused += 1
    card.heal()
    async with life.outbox() as outbox:
        feed = outbox.follow("cloud")
        await drained(life, feed)
        check(outbox)
        losses = await outbox.ledger()
        aside = {(one.reading.epoch, one.reading.seq) for one in await outbox.quarantined()}
        epoch = outbox.epoch
    assert epoch > max((epoch for epoch, _ in life.taken_in), default=0)
    if not life.unclean:
        assert aside == life.aside, "what was set aside is there"
        ends = {"too-big": life.aside, "rejected": life.rejected}
        for reason, ended in ends.items():
            assert sum(loss.count for loss in losses if loss.reason == reason) == len(ended), (
                "each loss is entered once"
            )
    missing = life.taken_in - life.delivered - life.aside - life.rejected
    assert not missing or life.unclean, "nothing is lost on a card that is well again"
    if life.durable:
        return  # what was never on the card was never sent: nobody can miss it
    if aside != life.aside:
        assert any(loss.reason == "crash-window" for loss in losses), "that the end was not in order is known"
    explained = {loss.epoch for loss in losses if loss.reason in ("crash-window", "disk-error")}
    assert {epoch for epoch, _ in missing} <= explained, "what was in memory at the end is in the ledger"


def put(life: Life, outbox: Outbox, count: int) -> None:
    first = outbox._log.next_id
    for n in range(count):
        outbox.put("boiler", {"n": n, "text": "x" * 40})
    life.taken_in |= {(one.epoch, one.seq) for one in outbox._log.tail.slice(first, outbox._log.next_id)}


def deliver(life: Life, feed: Feed, limit: int) -> int:
    readings = feed.take(limit)
    life.delivered |= {(one.epoch, one.seq) for one in readings}
    if readings:
        feed.acknowledged([one.id for one in readings])
    return len(readings)


def refuse(life: Life, feed: Feed) -> None:
    """No broker takes the next two: one is set aside, one is given up."""
    if len(readings := feed.take(2)) == 2:
        life.aside.add((readings[0].epoch, readings[0].seq))
        life.rejected.add((readings[1].epoch, readings[1].seq))
        feed.quarantine([readings[0].id], "too-big")
        feed.rejected([readings[1].id], "rejected")


async def drained(life: Life, feed: Feed) -> None:
    ready = asyncio.Event()
    feed.on_ready(ready.set)
    async with asyncio.timeout(30):
        while feed.account.waiting:
            ready.clear()
            if not deliver(life, feed, 1000) and feed.account.waiting:
                await ready.wait()


async def settled(outbox: Outbox) -> None:
    """Wait until nothing is left to be written."""
    async with asyncio.timeout(20):
        while outbox.fault is not None or outbox._log.oldest() is not None or outbox._log.restless:
            await outbox.flush()


def check(outbox: Outbox) -> None:
    """Check the law: taken in = delivered + waiting + in the ledger, as far as this run knows."""
    account = outbox.follow("cloud").account
    waiting = sum(end - start for start, end in open_spans(outbox))
    assert account.waiting == waiting, "what waits is what has met no end"


def open_spans(outbox: Outbox) -> list[tuple[int, int]]:
    log = outbox._log
    return list(log.followers["cloud"].acked.gaps(0, log.next_id))


def fresh(folder: Path) -> Path:
    """Return an empty folder."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    return home
