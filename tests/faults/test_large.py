"""However large a file is, and however broken: a run begins at once, and what is left of earlier ones comes later."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.cli.selftest.card import SYNC, WRITE, Card, during
from gateway.outbox import Outbox
from gateway.outbox.audit import audit
from gateway.outbox.card.aside import unfinished
from gateway.outbox.card.opening import log_of
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.outbox.inspection import Inspection
from gateway.reading import EPOCH_SHIFT
from tests.outbox.following import crashed, ids_of, take_all, until

HERE = Path(__file__).parents[2]
BLOCKS, EACH = 300, 20
KILLS = [("go_on", 1), ("go_on", 5), ("commit", 3), ("go_on", 40), ("go_on", 60), ("put_away", 1)]
"""At which call of what: while it reads, sorts out and settles, and when all is on the card but for the name."""


def put(outbox: Outbox, count: int, stream: str = "boiler") -> list[int]:
    first = outbox._log.next_id
    for n in range(count):
        outbox.put(stream, {"n": n, "text": f"{n:060}"})
    return list(range(first, first + count))


async def backlog(path: Path) -> list[int]:
    """Leave an outbox as a crash leaves it, with a backlog of many blocks; return the ids of what waits for `cloud`."""
    async with Outbox(path, ["cloud"], commit_interval=3600.0) as outbox:
        ids: list[int] = []
        for _ in range(BLOCKS):
            ids += put(outbox, EACH)
            await outbox.flush()
        feed = outbox.follow("cloud")
        feed.acknowledged(ids_of(await take_all(feed, 1000)))
        feed.quarantine([ids[1000]], "too-big")
        feed.rejected([ids[1001]], "rejected")
        await until(lambda: feed.account.lost == 2)
        await outbox.flush()
        await outbox._keeper._writer.submit(lambda: outbox._store._db.execute("PRAGMA wal_checkpoint").fetchall())
        crashed(path, "copy.db")
    shutil.copy(f"{path}.mark", path.with_name("copy.db.mark"))
    for suffix in ("", "-wal", ".mark"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        path.with_name(f"copy.db{suffix}").rename(f"{path}{suffix}")
    return ids[1002:]


def damage(path: Path) -> None:
    """Break the root of the table of blocks: SQLite cannot find a single one."""
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block'").fetchone()[0]
    db.close()
    for log in (log_of(path), Path(f"{path}-shm")):
        log.unlink(missing_ok=True)
    with path.open("r+b") as file:
        file.seek((root - 1) * PAGE_SIZE)
        file.write(bytes(PAGE_SIZE))


def slow(path: Path) -> Outbox:
    """Return an outbox that has no time at all to look through what is there at its start."""
    outbox = Outbox(path, ["cloud"], commit_interval=3600.0)
    assert outbox._store is not None
    outbox._store._seconds = 0.0
    return outbox


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all steps as short as they can be."""
    monkeypatch.setattr("gateway.outbox.recall.STEP", 0.0)
    monkeypatch.setattr("gateway.outbox.card.salvage.ROWS", 7)
    monkeypatch.setattr("gateway.outbox.card.walk.ROWS", 7)
    monkeypatch.setattr("gateway.outbox.card.pages.CHUNK", 4096)


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_damaged_file_is_salvaged_while_the_gateway_runs(tmp_path: Path) -> None:
    """New readings flow at once; what is whole follows; quarantine and ledger are there again; the account is right."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    with capture_logs() as logs:
        async with slow(path) as outbox:
            feed = outbox.follow("cloud")
            assert outbox.hidden
            assert feed.account.waiting == 0
            assert [(loss.epoch, loss.count, loss.reason) for loss in await outbox.ledger()] == [(1, 0, "disk-error")]
            feed.begin_live()
            new = put(outbox, 30)
            assert ids_of(feed.take(100)) == new, "what is new goes at once"
            feed.acknowledged(new[:10])
            await outbox.flush()
            assert outbox.epoch == 2
            with Inspection(path) as card:
                assert card.standing("cloud").waiting == 20
                assert ["still being salvaged" in problem for problem in audit(card).problems] == [True]
            await until(lambda: not outbox.hidden)
            account = feed.account
            losses = await outbox.ledger()
            missing = sum(loss.count for loss in losses if loss.reason == "disk-error")
            assert account.waiting == len(ids) - missing + 20
            assert account.lost == account.quarantined == 1
            assert [one.reading.id for one in await outbox.quarantined()] == [ids[0] - 2]
            assert {loss.reason for loss in losses} == {"too-big", "rejected", "disk-error"}
            feed.left(new[10:])
            got = ids_of(await take_all(feed, account.waiting))
            assert len(set(got)) == len(got) == len(ids) - missing + 20
            assert set(got) <= {*ids, *new}
            feed.acknowledged(got)
            await outbox.flush()
            await until(lambda: not unfinished(path))
    assert Path(f"{path}.damaged-1").exists()
    said = [str(entry["event"]) for entry in logs if entry["log_level"] == "warning"]
    assert "is large" in said[0]
    assert f"kept in {path}.damaged-1" in said[-1]
    with Inspection(path) as card:
        assert audit(card).problems == []
    with capture_logs() as logs:
        async with Outbox(path, ["cloud"]) as outbox:
            assert (outbox.hidden, outbox.follow("cloud").account.waiting) == (False, 0)
            assert len(await outbox.ledger()) == len(losses), "said once"
    assert logs == []


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_large_file_is_looked_through_while_the_gateway_runs(tmp_path: Path) -> None:
    """What was looked through is sent, what is new goes beside it, and nothing is sent twice, or not at all."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    async with slow(path) as outbox:
        feed = outbox.follow("cloud")
        assert outbox.hidden
        feed.begin_live()
        new = put(outbox, 10)
        assert ids_of(feed.take(100))[-10:] == new
        feed.acknowledged(new)
        await until(lambda: not outbox.hidden)
        assert feed.account.waiting == len(ids)
        assert ids_of(await take_all(feed, len(ids))) == ids
        feed.acknowledged(ids)
        await outbox.flush()
        assert outbox._log.blocks == 0
        assert outbox._store is not None
        assert outbox._store._db.execute("SELECT count(*) FROM block").fetchone() == (0,)


@pytest.mark.system
async def test_a_salvage_that_is_killed_goes_on_at_the_next_start(tmp_path: Path) -> None:
    """SIGKILL at any step, again and again: each reading comes once, and what is missing is counted once."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    delivered: set[int] = set()
    taken_in: set[int] = set()
    for epoch, (method, n) in enumerate(KILLS, 2):
        command = [sys.executable, "-m", "tests.faults.killed", str(path), method, str(n)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == -9, f"{method} {n}: {done.stdout}{done.stderr}"
        assert bool(unfinished(path)), "the damaged file is there until all of it is known"
        if "acknowledged" in done.stdout:
            delivered |= set(map(int, done.stdout.split("acknowledged")[0].split()[-5:]))
            taken_in |= {(epoch << EPOCH_SHIFT) + one for one in range(1, 11)}
    assert len(delivered) >= 10
    async with slow(path) as outbox:
        await until(lambda: not outbox.hidden)
        feed = outbox.follow("cloud")
        got = ids_of(await take_all(feed, feed.account.waiting))
        feed.acknowledged(got)
        await outbox.flush()
        losses = await outbox.ledger()
    assert not unfinished(path)
    missing = sum(loss.count for loss in losses if loss.reason == "disk-error")
    assert len(set(got)) == len(got), "once"
    assert set(got) & set(ids) == set(got) - taken_in
    assert len(set(got) & set(ids)) == len(ids) - missing
    assert set(got) - set(ids) == taken_in - delivered
    assert [loss.count for loss in losses if loss.reason in ("too-big", "rejected")] == [1, 1]
    with Inspection(path) as card:
        assert audit(card).problems == []


@pytest.mark.usefixtures("one_at_a_time")
async def test_what_goes_in_strict_order_waits_until_all_is_known(tmp_path: Path) -> None:
    """Who makes no difference between live and backlog gets nothing new before what is old."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    async with slow(path) as outbox:
        feed = outbox.follow("cloud")
        new = put(outbox, 10)
        assert feed.take(100) == []
        await until(lambda: not outbox.hidden)
        missing = sum(loss.count for loss in await outbox.ledger() if loss.reason == "disk-error")
        got = ids_of(await take_all(feed, feed.account.waiting))
        assert got == sorted(got)
        assert got[-10:] == new
        assert len(got) == len(ids) - missing + 10


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("marked", [True, False])
async def test_a_large_file_that_is_no_outbox(tmp_path: Path, marked: bool) -> None:
    """Nobody loses anything by a foreign one, and it is never deleted; one that has replaced an outbox is a loss."""
    path = tmp_path / "o.db"
    if marked:
        async with Outbox(path, ["cloud"]):
            pass
    noise = b"these are my notes\n" * 5000
    path.write_bytes(noise)
    async with slow(path) as outbox:
        assert outbox.hidden
        new = put(outbox, 10)
        await until(lambda: not outbox.hidden)
        await until(lambda: not unfinished(path))
        assert ids_of(await take_all(outbox.follow("cloud"), 10)) == new
        assert [(loss.epoch, loss.reason) for loss in await outbox.ledger()] == [(1, "disk-error")] * marked
    kept = Path(f"{path}.damaged-1" if marked else f"{path}.foreign-1")
    assert kept.read_bytes() == noise


@pytest.mark.usefixtures("one_at_a_time")
async def test_an_uplink_that_is_not_in_the_config_keeps_what_waits_for_it(tmp_path: Path) -> None:
    """A damage makes nobody forget it; it can be let go of when all is known, and not before."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    outbox = Outbox(path, ["other"], commit_interval=3600.0)
    assert outbox._store is not None
    outbox._store._seconds = 0.0
    async with outbox:
        with pytest.raises(OSError, match="looked through"):
            await outbox.trim(0.0)
        put(outbox, 10)
        await until(lambda: not outbox.hidden)
        losses = await outbox.ledger()
        missing = sum(loss.count for loss in losses if (loss.uplink, loss.reason) == ("cloud", "disk-error"))
        assert outbox.strangers == {"cloud": len(ids) - missing}
        await outbox.flush()
    async with Outbox(path, ["other"]) as outbox:
        assert outbox.strangers == {"cloud": len(ids) - missing}
        assert await outbox.forget("cloud") == len(ids) - missing


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_file_that_breaks_while_another_is_salvaged_is_salvaged_as_well(tmp_path: Path) -> None:
    """Both are put aside, both are read, and each reading comes once."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    async with slow(path) as outbox:
        feed = outbox.follow("cloud")
        feed.begin_live()
        new = put(outbox, 40)
        await outbox.flush()
        feed.acknowledged(ids_of(feed.take(10)))
        await outbox.flush()
        assert outbox.hidden
    assert len(unfinished(path)) == 1
    damage(path)
    async with slow(path) as outbox:
        assert len(unfinished(path)) == 2
        await until(lambda: not outbox.hidden)
        await until(lambda: not unfinished(path))
        feed = outbox.follow("cloud")
        got = ids_of(await take_all(feed, feed.account.waiting))
        missing = sum(loss.count for loss in await outbox.ledger() if loss.reason == "disk-error")
    assert len(set(got)) == len(got) == len(ids) + 30 - missing
    assert set(got) <= {*ids, *new[10:]}
    assert missing < 100


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_card_that_fails_meanwhile_only_makes_it_take_longer(
    tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is read again, and nothing is lost by it."""
    monkeypatch.setattr("gateway.outbox.recall.LATER", 0.01)
    path = tmp_path / "o.db"
    ids = await backlog(path)
    damage(path)
    with Card() as card:
        async with slow(path) as outbox:
            card.restart(during({operation}, WRITE if operation == "write" else SYNC, 20, 60))
            await until(lambda: not outbox.hidden)
            assert card.failed
            card.heal()
            feed = outbox.follow("cloud")
            missing = sum(loss.count for loss in await outbox.ledger() if loss.reason == "disk-error")
            got = ids_of(await take_all(feed, feed.account.waiting))
            assert len(set(got)) == len(got) == len(ids) - missing
            assert missing < 50


@pytest.mark.usefixtures("one_at_a_time")
async def test_a_large_file_that_breaks_while_it_is_looked_through(tmp_path: Path) -> None:
    """It is set up anew, what is whole is sent, and the ledger says that nobody knows how much is missing."""
    path = tmp_path / "o.db"
    ids = await backlog(path)
    async with slow(path) as outbox:
        store = outbox._store
        assert store is not None
        new = put(outbox, 10)
        await outbox._keeper.alive()
        root = store._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block'").fetchone()[0]
        await outbox.flush()
        await outbox._keeper._writer.submit(lambda: store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        with path.open("r+b") as file:
            file.seek((root - 1) * PAGE_SIZE)
            file.write(bytes(PAGE_SIZE))
        store._db.execute("PRAGMA shrink_memory")
        assert outbox.hidden
        put(outbox, 1)
        await until(lambda: not outbox.hidden)
        await outbox.flush()
        feed = outbox.follow("cloud")
        got = ids_of(await take_all(feed, feed.account.waiting))
        losses = [loss for loss in await outbox.ledger() if loss.reason == "disk-error"]
        assert losses
        assert len(set(got)) == len(got) >= len(ids) - 50
        assert set(got) <= {*ids, *new, new[-1] + 1}
