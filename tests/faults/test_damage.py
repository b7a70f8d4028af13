"""A damaged outbox: the gateway starts, sends what can be read, and the ledger has the rest."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from sqlite_utils import Database
from structlog.testing import capture_logs

from gateway.outbox import Outbox
from gateway.outbox.card.aside import draft_of, finish, prune, put_aside
from gateway.outbox.card.block import encode
from gateway.outbox.card.finds import Finds
from gateway.outbox.card.opening import is_whole, log_of
from gateway.outbox.card.pages import Pages, read_log
from gateway.outbox.card.rows import block_sum
from gateway.outbox.card.schema import migrations
from gateway.outbox.ranges import END
from gateway.reading import EPOCH_SHIFT, Reading
from tests.faults.damage import SHM, run
from tests.outbox.following import crashed, ids_of, message, take_all

CASES = int(os.environ.get("DAMAGES", "72"))


async def test_random_damages() -> None:
    """Bytes flipped, pages zeroed, swapped or cut off, foreign files, of database and log: all as promised.

    All 500: `python -m tests.faults.damage 500`, or DAMAGES=500.
    """
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        outcomes = await run(CASES, 1, Path(folder))
    assert sum(outcomes.values()) == CASES
    words = {outcome.partition(": ")[2] for outcome in outcomes}
    assert words >= {"salvaged", "went on", "refused"}, "the damages are of all kinds"


async def test_what_is_no_outbox_is_moved_aside_and_never_deleted(tmp_path: Path) -> None:
    """A path that points at something else: it is kept, and the log says where."""
    path = tmp_path / "notes.txt"
    for number in range(1, 5):
        path.write_bytes(b"these are my notes\n" * 100)
        with capture_logs() as logs:
            async with Outbox(path, ["cloud"]) as outbox:
                assert await outbox.ledger() == [], "nothing of ours was lost"
        assert [f"{path}.foreign-{number}" in entry["event"] for entry in logs] == [True]
        path.unlink()
        Path(f"{path}.mark").unlink()
        assert Path(f"{path}.foreign-{number}").read_bytes() == b"these are my notes\n" * 100
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE epoch (mine TEXT)")
    db.close()
    async with Outbox(path, ["cloud"]):
        pass
    with sqlite3.connect(f"{path}.foreign-5") as db:
        assert db.execute("SELECT sql FROM sqlite_schema").fetchall() == [("CREATE TABLE epoch (mine TEXT)",)]
    db.close()


async def test_damaged_files_are_kept_within_bounds(tmp_path: Path) -> None:
    """The newest two, and no more than the outbox may take itself."""
    path = tmp_path / "o.db"
    for number in range(1, 6):
        path.write_bytes(bytes([number]) * 1000)
        log_of(path).write_bytes(bytes(500))
        assert put_aside(path, "damaged").name == f"o.db.damaged-{number}"
        prune(path, 10_000)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["o.db.damaged-4", "o.db.damaged-4-wal", "o.db.damaged-5", "o.db.damaged-5-wal"]
    prune(path, 2000)
    assert sorted(file.name for file in tmp_path.iterdir()) == names[2:]


async def test_a_salvage_that_is_interrupted_is_finished_or_done_again(tmp_path: Path) -> None:
    """At any step: either the damaged file is still there, or the finished draft of the new one is."""
    path = tmp_path / "home" / "o.db"
    path.parent.mkdir()
    async with Outbox(path, ["cloud"]) as outbox:
        outbox.accept_many([message(n) for n in range(10)])
        await outbox.flush()
        crashed(path, "draft")
    draft_of(path).write_bytes(b"half of one")
    finish(path)
    assert not draft_of(path).exists(), "the old one is there: begun again"
    async with Outbox(path, ["cloud"]) as outbox:
        assert outbox.follow("cloud").account.waiting == 10
    path.rename(draft_of(path))
    log_of(path).write_bytes(b"the log of the old one")
    async with Outbox(path, ["cloud"]) as outbox:
        assert outbox.follow("cloud").account.waiting == 10
    assert Path(f"{path}.damaged-1-wal").read_bytes() == b"the log of the old one"


async def test_without_readable_acknowledgements_all_is_sent_again(tmp_path: Path) -> None:
    """At least once: what nobody knows to be delivered is not taken for it."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        ids = list(outbox.accept_many([message(n) for n in range(20)]))
        await outbox.flush()
        outbox.follow("cloud").acknowledged(ids_of(await take_all(outbox.follow("cloud"), 5)))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE uplink SET acked = replace(acked, '[[0,', '[[1,')")
    db.close()
    async with Outbox(path, ["cloud"]) as outbox:
        assert ids_of(await take_all(outbox.follow("cloud"), 20)) == ids
        assert [(loss.count, loss.reason) for loss in await outbox.ledger()] == [(0, "disk-error")]


async def test_a_block_whose_ids_are_wrong_is_not_believed(tmp_path: Path) -> None:
    """A flipped bit in the last id of a block must not delete what nobody has."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        ids = list(outbox.accept_many([message(n) for n in range(20)]))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE block SET last_id = last_id - 8")
    db.close()
    async with Outbox(path, ["cloud"]) as outbox:
        feed = outbox.follow("cloud")
        assert feed.account.waiting == 0
        losses = await outbox.ledger()
        assert sum(loss.count for loss in losses) in (0, len(ids))
        assert {loss.reason for loss in losses} == {"disk-error"}


def test_pages_are_read_as_sqlite_reads_them(tmp_path: Path) -> None:
    """Records of all sizes and types, from the database and from its log."""
    path = tmp_path / "x.db"
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size = 1024", "auto_vacuum = INCREMENTAL", "journal_mode = WAL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d)")
    integers = [0, 1, -1, 127, -128, 1 << 15, 1 << 23, -(1 << 31), 1 << 40, (1 << 62) + 1]
    for n, size in enumerate([0, 1, 100, 950, 970, 989, 990, 1000, 1020, 2047, 5000, 70_000]):
        row = (integers[n % len(integers)], n / 3, "é" * (size // 2), bytes(size))
        db.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?)", (n - 3 << 3 * n, *row))
        db.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?)", (1000 + n, None, *row[1:]))
    expected = {row[0]: row[1:] for row in db.execute("SELECT * FROM t")}
    assert len(expected) == 24
    log = read_log(log_of(path))
    assert log.used == len(log.frames) > 0
    assert not log.is_damaged
    shutil.copy(path, tmp_path / "copy.db")
    shutil.copy(log_of(path), tmp_path / "copy.db-wal")
    db.close()
    for each in (path, tmp_path / "copy.db"):
        with Pages(each, log_of(each)) as pages:
            found = {row_id: columns[1:] for row_id, columns in pages.rows() if len(columns) == 5 and not columns[0]}
        assert found == expected


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_log_that_is_broken_in_the_middle_is_told_from_one_that_ends(tmp_path: Path, where: str) -> None:
    """A transaction that was not completed is nothing to say; one that was, and cannot be found, is a damage."""
    path = tmp_path / "x.db"
    db = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA page_size = 1024", "PRAGMA journal_mode = WAL", "CREATE TABLE t (a)"):
        db.execute(statement)
    for n in range(5):
        db.execute("INSERT INTO t VALUES (?)", (n,))
    data = log_of(path).read_bytes()
    db.close()
    file = tmp_path / "log"
    at = len(data) // 2 if where == "middle" else len(data) - 1024 * 3 // 2
    file.write_bytes(data[:at] + b"\xff" * 20 + data[at + 20 :] if where == "middle" else data[:at])
    assert read_log(file).is_damaged == (where == "middle")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_blocks_that_begin_alike_the_longer_one_goes_on(order: int) -> None:
    """What was thinned and put together is found beside what it was made of: nothing that is left may be missing."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(Database(db))
    first = (1 << EPOCH_SHIFT) + 1
    readings = [Reading(first + n, "boiler", n + 1, float(n), None, {"n": n}) for n in range(40)]
    rows = []
    for part, level in ((readings[:10], 1), (readings[::4], 4)):
        data = encode(part)
        block = part[0].id, part[-1].id, len(part), data
        rows.append((first, (None, *block[1:3], block_sum(*block), data, 0, level)))
    finds = Finds(END)
    finds.take(db, rows[::order])
    assert db.execute("SELECT first_id, last_id, count, level FROM block").fetchall() == [(first, first + 36, 10, 4)]
    assert is_whole(*db.execute("SELECT first_id, last_id, count, crc, data FROM block").fetchone())
    db.close()
