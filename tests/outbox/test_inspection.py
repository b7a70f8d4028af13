"""Whoever looks at an outbox sees what is on the card, changes nothing, and finds out what contradicts the account."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.outbox import Outbox
from gateway.outbox.audit import Audit, audit
from gateway.outbox.inspection import Inspection
from gateway.reading import EPOCH_SHIFT
from tests.cli.outbox_of import NOON, Hands, make
from tests.outbox.following import crashed, take_all

BOILER = 1 << EPOCH_SHIFT


def audited(path: Path) -> Audit:
    with Inspection(path) as card:
        return audit(card)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file that holds anything, without the one that only coordinates readers."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder for `mount` below, whose files nobody can write."""
    folder = tmp_path / "card"
    folder.mkdir()
    yield folder
    if os.geteuid() == 0:
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)
    else:
        folder.chmod(0o755)


def insert(folder: Path, *files: Path) -> None:
    """Have these files on a card that cannot be written: one that is mounted so or, for want of root, may not be."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    for file in files:
        shutil.copy(file, folder)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    else:
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)


async def test_what_a_power_cut_left_is_seen_whole(tmp_path: Path) -> None:
    """Also what is only in SQLite's log yet, and with no byte of database and log changed."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"], clock=Hands().clock) as outbox:
        for n in range(3):
            outbox.put("boiler", {"n": n})
            await outbox.flush()
        copy = crashed(path, "crashed.db")
    before = contents(tmp_path)
    with Inspection(copy) as card:
        assert [seen.reading.values for seen in card.readings("cloud")] == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert not card.in_use
    assert contents(tmp_path) == before


@pytest.mark.parametrize("cut", [False, True], ids=["clean", "cut off"])
def test_a_card_that_cannot_be_written_is_read(tmp_path: Path, read_only: Path, cut: bool) -> None:
    """A card of a dead machine, mounted read-only: what was committed last is seen, in the log or not."""

    async def make_one() -> Path:
        path = tmp_path / "outbox.db"
        async with Outbox(path, ["cloud"], clock=Hands().clock) as outbox:
            outbox.put("boiler", {"n": 1})
            await outbox.flush()
            copy = crashed(path, "crashed.db")
        return copy if cut else path

    path = asyncio.run(make_one())
    log = path.with_name(path.name + "-wal")
    assert log.exists() == cut
    insert(read_only, path, *([log] if cut else []))
    before = sorted(file.name for file in read_only.iterdir())
    with Inspection(read_only / path.name) as card:
        (seen,) = card.readings()
        assert (seen.reading.values, seen.time) == ({"n": 1}, NOON)
        assert audit(card).problems == []
    assert sorted(file.name for file in read_only.iterdir()) == before


async def test_looking_does_not_stop_the_writer(tmp_path: Path) -> None:
    """While somebody reads block after block, commits go on, and what is deleted meanwhile is simply not seen."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"]) as outbox:
        for n in range(30):
            outbox.put("boiler", {"n": n})
            await outbox.flush()
        with Inspection(path) as card:
            assert card.in_use
            seen = card.readings("cloud")
            assert next(seen).reading.values == {"n": 0}
            taken = await take_all(outbox.follow("cloud"), 30)
            outbox.follow("cloud").acknowledged([one.id for one in taken])
            outbox.put("boiler", {"n": 30})
            await outbox.flush()
            rest = [one.reading.values["n"] for one in seen]  # type: ignore[call-overload]
            assert rest == [*range(1, 8), 30]
        with Inspection(path) as card:
            assert card.standing("cloud").waiting == 1


async def test_an_audit_sees_one_moment(tmp_path: Path) -> None:
    """What is committed while it reads does not make the account wrong."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"]) as outbox:
        outbox.put("boiler", {"n": 0})
        await outbox.flush()
        with Inspection(path) as card:
            card.snapshot()
            feed = outbox.follow("cloud")
            feed.acknowledged([one.id for one in await take_all(feed, 1)])
            outbox.put("boiler", {"n": 1})
            await outbox.flush()
            assert [seen.reading.seq for seen in card.readings("cloud")] == [1]
            assert [block.length for block in card.blocks()] == [1]


def test_whatever_happens_the_account_adds_up(tmp_path: Path) -> None:
    """Over restarts, and whatever ends readings meet at two uplinks, nothing contradicts the account."""
    rng = random.Random(4)
    path = tmp_path / "outbox.db"

    async def run() -> None:
        hands = Hands()
        async with Outbox(path, ["cloud", "near"], clock=hands.clock) as outbox:
            for _ in range(30):
                hands.boot += 1.0
                for _ in range(rng.randrange(20)):
                    outbox.put(rng.choice(["boiler", "meter"]), {"n": rng.randrange(9)})
                feed = outbox.follow(rng.choice(["cloud", "near"]))
                taken = feed.take(rng.randrange(30))
                rng.shuffle(taken)
                ends = [feed.acknowledged, lambda ids: feed.rejected(ids, "rejected")]  # noqa: B023 - used at once
                ends += [lambda ids: feed.quarantine(ids, "poison"), feed.left]  # noqa: B023
                for end in ends:
                    some, taken = taken[: rng.randrange(8)], taken[8:]
                    if some:
                        end([one.id for one in some])
                feed.left([one.id for one in taken])
                if rng.random() < 0.3:
                    await outbox.flush()
                if rng.random() < 0.2:
                    aside = [entry.reading.id for entry in await outbox.quarantined()]
                    await rng.choice([outbox.retry, outbox.discard])(aside[:3])

    for _ in range(6):
        asyncio.run(run())
        found = audited(path)
        assert found.problems == []
        assert found.readings > 20
        with Inspection(path) as card:
            for uplink in card.uplinks():
                standing = card.standing(uplink)
                lines = [line for line in found.lines if line.uplink == uplink]
                assert standing.waiting == sum(line.waiting for line in lines) == len(list(card.readings(uplink)))
                assert standing.lost == sum(line.lost for line in lines) > 0


TAMPERED = {
    "UPDATE block SET data = CAST(data || x'ff' AS BLOB)": "block 1:1 to 1:6 is damaged",
    "UPDATE ledger SET count = 7 WHERE id = 1": "cannot be",
    "UPDATE ledger SET first_seq = 1, last_seq = 9, count = 9, stream = 'meter'": "still wait",
    "UPDATE ledger SET last_seq = 5, count = 4 WHERE id = 1": "more than the 5 that were taken in",
    "DELETE FROM epoch": "epoch 1, which the card does not know",
    "UPDATE quarantine SET data = x'00'": "what is set aside as 1:3 is damaged",
}


@pytest.mark.parametrize("statement", TAMPERED, ids=TAMPERED.values())
def test_what_contradicts_the_account_is_found(tmp_path: Path, statement: str) -> None:
    """Each kind of contradiction is named."""
    path = make(tmp_path / "outbox.db")
    assert audited(path).problems == []
    with sqlite3.connect(path) as db:
        assert db.execute(statement).rowcount > 0
    db.close()
    problems = audited(path).problems
    assert any(TAMPERED[statement] in problem for problem in problems), problems


def test_a_block_that_was_copied_is_found(tmp_path: Path) -> None:
    """A reading that is there twice would be delivered twice."""
    path = make(tmp_path / "outbox.db")
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO block (first_id, last_id, count, crc, data) "
            "SELECT first_id + 3, last_id, count, crc, data FROM block"
        )
    db.close()
    assert audited(path).problems != []


async def test_a_damaged_block_is_left_out_and_named(tmp_path: Path) -> None:
    """The readings around it are still seen."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"]) as outbox:
        for n in range(3):
            outbox.put("boiler", {"n": n})
            await outbox.flush()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE block SET crc = crc + 1 WHERE first_id = ?", (BOILER + 2,))
    db.close()
    with Inspection(path) as card:
        assert [seen.reading.values for seen in card.readings()] == [{"n": 0}, {"n": 2}]
        assert card.damaged == [(BOILER + 2, BOILER + 2)]


async def test_trim_spares_what_is_with_a_broker_and_what_is_told_of_losses(tmp_path: Path) -> None:
    """Of what waits, in memory and on the card, only what is older goes; not what is in flight, nor the ledger."""
    path = tmp_path / "outbox.db"
    hands = Hands()
    async with Outbox(path, ["cloud"], clock=hands.clock) as first:
        for stream in ("boiler", "ledger", "boiler"):
            first.put(stream, {"n": 1})
    async with Outbox(path, ["cloud", "near"], clock=hands.clock) as outbox:
        feed = outbox.follow("cloud")
        (flying,) = await take_all(feed, 1)
        hands.boot += 10.0
        outbox.put("boiler", {"n": 2})
        hands.boot += 10.0
        outbox.put("boiler", {"n": 3})
        assert await outbox.trim(NOON + 15.0, "cloud") == 2
        assert (feed.account.lost, feed.account.waiting) == (2, 3)
        assert [(loss.uplink, loss.stream, loss.epoch, loss.first_seq) for loss in await outbox.ledger()] == [
            ("cloud", "boiler", 1, 2),
            ("cloud", "boiler", 2, 1),
        ]
        feed.acknowledged([flying.id])
        assert [one.stream for one in await take_all(feed, 2)] == ["ledger", "boiler"]
        assert await outbox.trim(NOON + 15.0) == 1  # of the other uplink
        with pytest.raises(ValueError, match="no uplink"):
            await outbox.trim(NOON, "clout")
    assert audited(path).problems == []
