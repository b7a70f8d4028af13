"""Every reason for which a reading can be lost: how it comes about, and that `outbox ledger` shows it."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.cli.app import main
from gateway.cli.selftest.card import WRITE, Card, during
from gateway.outbox import Outbox
from tests.cli.outbox_of import Hands
from tests.outbox.following import crashed, take_all, until

Making = Callable[[Path], Awaitable[Path]]


def put(outbox: Outbox, count: int) -> None:
    dice = random.Random(1)
    for n in range(count):
        outbox.put("boiler", {"n": n, "noise": dice.random()})


async def overfilled(path: Path, when_full: str = "drop-oldest", keep_free: int = 0) -> Path:
    async with Outbox(
        path, ["cloud"], max_size=60_000, keep_free=keep_free, when_full=when_full, commit_interval=3600
    ) as outbox:
        for _ in range(8):
            put(outbox, 1000)
            await outbox.flush()
    return path


async def thinned(path: Path) -> Path:
    return await overfilled(path, "thin")


async def without_space(path: Path) -> Path:
    return await overfilled(path, keep_free=1 << 60)


async def aged(path: Path) -> Path:
    hands = Hands()
    async with Outbox(path, ["cloud"], max_age=10.0, clock=hands.clock) as outbox:
        put(outbox, 10)
        await outbox.flush()
        hands.boot += 20.0
        put(outbox, 1)
        for _ in range(3):
            await outbox.flush()
    return path


async def failing(path: Path) -> Path:
    with Card() as card:
        async with Outbox(path, ["cloud"], commit_interval=0.02, memory_limit=100_000) as outbox:
            card.restart(during({"write"}, WRITE))
            put(outbox, 1)
            await until(lambda: outbox.fault is not None)
            put(outbox, 1000)
            card.heal()
            await until(lambda: outbox.fault is None)
    return path


async def refused(path: Path) -> Path:
    async with Outbox(path, ["cloud"]) as outbox:
        put(outbox, 10)
        feed = outbox.follow("cloud")
        feed.rejected([one.id for one in await take_all(feed, 2)], "rejected")
    return path


def set_aside(reason: str) -> Making:
    async def make(path: Path) -> Path:
        async with Outbox(path, ["cloud"]) as outbox:
            put(outbox, 10)
            feed = outbox.follow("cloud")
            feed.quarantine([one.id for one in await take_all(feed, 2)], reason)
        return path

    return make


async def cut_off(path: Path) -> Path:
    async with Outbox(path, ["cloud"], commit_interval=3600) as outbox:
        put(outbox, 10)
        await outbox.flush()
        put(outbox, 10)
        copy = crashed(path, "crashed.db")
    async with Outbox(copy, ["cloud"]):
        pass
    return copy


async def trimmed(path: Path) -> Path:
    hands = Hands()
    async with Outbox(path, ["cloud"], clock=hands.clock) as outbox:
        put(outbox, 10)
        hands.boot += 20.0
        assert await outbox.trim(outbox._times.utc() - 10.0) == 10
    return path


REASONS: dict[str, tuple[str, Making]] = {
    "max_size": ("full", overfilled),
    "max_size, thinned": ("full", thinned),
    "max_age": ("too-old", aged),
    "keep_free": ("no-space", without_space),
    "a card that fails": ("disk-error", failing),
    "refused by the broker": ("rejected", refused),
    "a broker that hangs up on it": ("poison", set_aside("poison")),
    "larger than any broker takes": ("too-big", set_aside("too-big: 9 bytes")),
    "an unclean end": ("crash-window", cut_off),
    "given up by hand": ("shed", trimmed),
}


@pytest.mark.parametrize(("reason", "make"), REASONS.values(), ids=REASONS)
async def test_every_reason_is_in_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reason: str, make: Making
) -> None:
    """What was lost, how many and why: in one row, as a table and as JSON."""
    path = await make(tmp_path / "outbox.db")
    capsys.readouterr()
    assert main(["outbox", "ledger", "--path", str(path), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["uplink"], entry["stream"], entry["epoch"], entry["reason"]) == ("cloud", "boiler", 1, reason)
    assert (entry["count"] == 0) is (reason == "crash-window"), "how many is known, but after an unclean end"
    assert main(["outbox", "ledger", "--path", str(path)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == "reason"
    assert row.split()[-1] == reason
