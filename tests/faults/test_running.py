"""What may happen to the file, the folder and the card under a running outbox: it goes on, says it once, and heals."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.backoff import Backoff
from gateway.cli.selftest.card import FULL, READ, SYNC, WRITE, Card, during, slow
from gateway.outbox import Outbox, OutboxFull
from gateway.outbox.bounds import BESIDE
from gateway.outbox.brake import ROOM
from gateway.outbox.card.opening import log_of
from gateway.outbox.card.wear import PAGE_SIZE
from gateway.reading import Publication
from tests.outbox.following import Fates, crashed, ids_of, message, take_all, until


def put(outbox: Outbox, count: int, stream: str = "boiler") -> list[int]:
    first = outbox._log.next_id
    for n in range(count):
        outbox.put(stream, {"n": n, "text": "x" * 60})
    return list(range(first, first + count))


def said(logs: list[dict[str, object]]) -> list[tuple[str, str]]:
    return [(str(entry["log_level"]), str(entry["event"]).partition(";")[0]) for entry in logs]


@pytest.mark.parametrize("what", ["file", "file and log", "log", "folder", "moved", "replaced"])
async def test_a_file_that_is_deleted_under_it_is_there_again(tmp_path: Path, what: str) -> None:
    """What is open can still be read: all of it is in the new file, and nothing is lost; it is said once."""
    folder = tmp_path / "home"
    path = folder / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=3600.0) as outbox:
        feed = outbox.follow("cloud")
        ids = put(outbox, 6000)
        await outbox.flush()
        ids += put(outbox, 10)
        if what == "folder":
            shutil.rmtree(folder)
        elif what == "moved":
            folder.rename(tmp_path / "elsewhere")
        else:
            for suffix in {"file": [""], "log": ["-wal"], "replaced": [""]}.get(what, ["", "-wal"]):
                Path(f"{path}{suffix}").unlink()
            if what == "replaced":
                path.write_bytes(b"something else")
        with capture_logs() as logs:
            await outbox.flush()
        assert said(logs)[0][1].startswith("the outbox was set up anew")
        assert len(logs) == 1
        ids += put(outbox, 5)
        await outbox.flush()
        copy = crashed(path, "copy.db")
        assert ids_of(await take_all(feed, 6015)) == ids
        feed.acknowledged(ids)
        assert await outbox.ledger() == []
    async with Outbox(copy, ["cloud"]) as outbox:
        assert ids_of(await take_all(outbox.follow("cloud"), 6015)) == ids


async def test_what_was_deleted_and_cannot_be_read_is_in_the_ledger_unless_it_is_in_memory(tmp_path: Path) -> None:
    """The newest few thousand are in memory and are written again; the others are lost, and counted."""
    path = tmp_path / "home" / "o.db"
    async with Outbox(path, ["near", "far"], commit_interval=3600.0) as outbox:
        near, far = outbox.follow("near"), outbox.follow("far")
        fates = Fates(far)
        ids: list[int] = []
        for _ in range(8):
            ids += put(outbox, 1000)
            await outbox.flush()
        near.acknowledged(ids_of(await take_all(near, 500)))
        kept = outbox._log.tail.start - ids[0]
        assert 2000 <= kept <= 4000
        await until(lambda: not any(follower.shelf.loading for follower in outbox._log.followers.values()))
        old = [file.open("r+b") for file in (path, log_of(path))]
        shutil.rmtree(path.parent)
        for file in old:  # what was deleted is gone on the card as well
            os.ftruncate(file.fileno(), 0)
            file.close()
        await outbox._keeper._writer.submit(lambda: outbox._store._db.execute("PRAGMA shrink_memory"))
        await outbox.flush()
        assert (near.account.lost, far.account.lost) == (kept - 500, kept)
        assert fates.told == dict.fromkeys(ids[:kept], "disk-error")
        losses = await outbox.ledger()
        assert {(loss.uplink, loss.stream, loss.reason) for loss in losses} == {
            (name, "?", "disk-error") for name in ("near", "far")
        }
        assert sum(loss.count for loss in losses) == 2 * kept - 500
        ids += put(outbox, 10)
        await outbox.flush()
        copy = crashed(path, "copy.db")
        assert ids_of(await take_all(far, 8010 - kept)) == ids[kept:]
        near.acknowledged(ids_of(await take_all(near, 8010 - kept)))
    async with Outbox(copy, ["near", "far"]) as outbox:
        for name in ("near", "far"):
            assert ids_of(await take_all(outbox.follow(name), 8010 - kept)) == ids[kept:]
        assert outbox._log.tail.end == outbox._log.next_id


async def test_a_file_that_breaks_under_it_is_salvaged(tmp_path: Path) -> None:
    """A page is overwritten while it runs: what is whole is kept, the account is right, and the process stays up."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=3600.0) as outbox:
        feed = outbox.follow("cloud")
        ids: list[int] = []
        for _ in range(40):
            ids += put(outbox, 250)
            await outbox.flush()
        store = outbox._store
        await outbox._keeper._writer.submit(lambda: store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        root = store._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block'").fetchone()[0]
        with path.open("r+b") as file:
            file.seek((root - 1) * PAGE_SIZE)
            file.write(bytes(PAGE_SIZE))
        store._db.execute("PRAGMA shrink_memory")
        with capture_logs() as logs:
            put(outbox, 10)
            await outbox.flush()
            await outbox.flush()
        assert (
            "error",
            "the outbox was set up anew, with what is in memory, and with as much of what it held as could be had",
        ) in said(logs)
        account = feed.account
        assert account.waiting + account.lost == 10_010
        assert sum(loss.count for loss in await outbox.ledger()) == account.lost
        got = ids_of(await take_all(feed, account.waiting))
        assert got == sorted(got)
        assert len(got) >= 10_010 - 500
    assert Path(f"{path}.damaged-1").exists()


async def test_while_the_card_cannot_be_read_new_readings_flow(tmp_path: Path) -> None:
    """A backlog that the card does not give waits; what comes in is sent; and when it gives it again, that is sent."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]) as outbox:
        ids = put(outbox, 100)
    with Card() as card:
        async with Outbox(path, ["cloud"]) as outbox:
            feed = outbox.follow("cloud")
            await outbox._keeper._writer.submit(lambda: outbox._store._db.execute("PRAGMA shrink_memory"))
            card.restart(during({"read"}, READ))
            with capture_logs() as logs:
                assert feed.take(10) == []
                new = put(outbox, 20)
                got: list[int] = []
                await until(lambda: bool(got.extend(ids_of(feed.take(50))) or got))
                assert got == new
                feed.acknowledged(new)
                card.heal()
                await until(lambda: bool(got.extend(ids_of(feed.take(200))) or len(got) == 120))
            assert got[20:] == ids
            assert [entry["log_level"] for entry in logs] == ["error", "info"]
            feed.acknowledged(ids)
            assert feed.account.waiting == 0


async def test_a_block_that_the_card_never_gives_is_lost_and_those_behind_it_are_sent(tmp_path: Path) -> None:
    """A bad sector: it is asked for a while, then it counts as lost, by number, and nobody waits for it any more."""
    path, noise = tmp_path / "o.db", random.Random(1)
    ids: list[list[int]] = []
    async with Outbox(path, ["cloud"]) as outbox:
        for _ in range(3):
            ids.append(list(outbox.accept_many([Publication("t", noise.randbytes(500)) for _ in range(20)])))
            await outbox.flush()
        data = outbox._store._db.execute("SELECT data FROM block ORDER BY first_id").fetchall()[1][0]
    file, pieces = path.read_bytes(), [data[at : at + 100] for at in (5000, 5100)]
    at = max(map(file.find, pieces))  # one may reach over the end of a page
    with Card() as card:
        async with Outbox(path, ["cloud"]) as outbox:
            await outbox._keeper._writer.submit(lambda: outbox._store._db.execute("PRAGMA shrink_memory"))
            outbox._keeper._reading._backoff = Backoff(0.001, 0.001)
            card.bad = range(at, at + 1)
            feed = outbox.follow("cloud")
            fates = Fates(feed)
            with capture_logs() as logs:
                got = ids_of(await take_all(feed, 40))
            assert got == ids[0] + ids[2]
            assert fates.told == dict.fromkeys(ids[1], "disk-error")
            assert [(loss.stream, loss.count, loss.reason) for loss in await outbox.ledger()] == [
                ("?", 20, "disk-error")
            ]
            assert sum("cannot be read" in entry["event"] for entry in logs) == 1
            card.bad = None


@pytest.mark.alone
async def test_a_slow_card_holds_up_nobody(tmp_path: Path) -> None:
    """A transaction that takes seconds: readings are taken in and flow, no device waits, and it is said once."""
    with Card() as card:
        async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.05) as outbox:
            feed = outbox.follow("cloud")
            loop = asyncio.get_running_loop()
            card.restart(slow(3.0))
            with capture_logs() as logs:
                put(outbox, 10)
                waiting = outbox.put("boiler", {"n": 1})
                assert waiting is None
                longest = 0.0
                await until(lambda: outbox._keeper._busy is not None)
                put(outbox, ROOM)
                held = outbox.put("boiler", {"n": 2})
                assert held is not None
                began = last = loop.time()
                while not held.done():  # type: ignore[attr-defined]
                    await asyncio.sleep(0)
                    longest, last = max(longest, loop.time() - last), loop.time()
                assert last - began < 2.9, "it waits no longer than the card has to be called slow"
                assert outbox.fault == "disk-error"
                assert feed.take(100), "what comes in flows meanwhile"
                card.heal()
                await until(lambda: outbox.fault is None)
            assert longest < 0.5
            assert [entry["log_level"] for entry in logs] == ["error", "info"]


@pytest.mark.parametrize(("code", "reason"), [(FULL, "no-space"), (WRITE, "disk-error")])
async def test_memory_is_bounded_while_the_card_takes_nothing(tmp_path: Path, code: int, reason: str) -> None:
    """Beyond memory_limit the oldest go into the ledger; no device waits; and the account is right to the last."""
    limit = 1_000_000
    with Card() as card:
        async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.02, memory_limit=limit) as outbox:
            feed = outbox.follow("cloud")
            put(outbox, 100)
            await outbox.flush()
            card.restart(during({"write"}, code))
            with capture_logs() as logs:
                put(outbox, 10)
                await until(lambda: outbox.fault == reason)
                for _ in range(100):
                    put(outbox, 200)
                    assert outbox.tail * (BESIDE + 100) <= limit
                    await asyncio.sleep(0)
                account = feed.account
                assert account.lost > 15_000
                assert account.lost + account.waiting == 20_110
                assert [entry["event"] for entry in logs if "gives readings up" in entry["event"]][1:] == []
                card.heal()
                await until(lambda: outbox.fault is None)
            assert [entry["log_level"] for entry in logs] == ["error", "warning", "info"]
            losses = await outbox.ledger()
            assert {loss.reason for loss in losses} == {reason}
            assert sum(loss.count for loss in losses) == account.lost
            got = await take_all(feed, account.waiting)
            assert [one.seq for one in got[:100]] == list(range(1, 101)), "what is on the card is not given up"
            assert len({one.id for one in got}) == account.waiting
            feed.acknowledged(ids_of(got))
            await until(lambda: outbox._log.oldest() is None)
    async with Outbox(tmp_path / "o.db", ["cloud"]) as outbox:
        assert outbox.follow("cloud").account.waiting == 0


async def test_a_program_is_refused_what_memory_has_no_room_for(tmp_path: Path) -> None:
    """when_full = "reject": memory_limit is named, nothing is dropped, and what `left` has promised is taken."""
    with Card() as card:
        async with Outbox(
            tmp_path / "o.db", ["client"], commit_interval=0, memory_limit=100_000, when_full="reject"
        ) as outbox:
            card.restart(during({"write"}, FULL))
            taken = [outbox.accept(message(0))]
            await until(lambda: outbox.fault == "no-space")
            count, size = outbox.left()
            for n in range(min(count, size // 20)):
                taken.append(outbox.accept(message(n)))
            with pytest.raises(OutboxFull, match=r"no-space.*memory_limit is 100000"):
                taken += map(outbox.accept, map(message, range(1000)))
            card.heal()
            await outbox.stored(taken[-1])
            assert outbox.follow("client").account.waiting == len(taken)
            outbox.accept(message(1))


async def test_a_stop_on_a_card_that_takes_nothing_says_what_is_lost(tmp_path: Path) -> None:
    """How many readings of which stream, once; and the ledger says it after the next start."""
    path = tmp_path / "o.db"
    with Card() as card:
        async with Outbox(path, ["near", "far"], commit_interval=3600.0) as outbox:
            put(outbox, 10)
            await outbox.flush()
            card.restart(during({"write"}, FULL))
            put(outbox, 5)
            put(outbox, 3, "weather")
            near = outbox.follow("near")
            near.acknowledged(ids_of(await take_all(near, 18)))
            far = outbox.follow("far")
            far.acknowledged(ids_of(await take_all(far, 12)))
            with capture_logs() as logs:
                await outbox.flush()
                await outbox._keeper.close()
            assert outbox.unwritten == {"boiler": 3, "weather": 3}
            lines = [entry for entry in logs if "are lost" in entry["event"]]
            assert [(entry["log_level"], entry["readings"]) for entry in lines] == [("error", dict(outbox.unwritten))]
    async with Outbox(path, ["near", "far"], streams=["weather"]) as outbox:
        found = {(loss.uplink, loss.stream, loss.first_seq, loss.reason) for loss in await outbox.ledger()}
    assert found >= {(name, "boiler", 11, "crash-window") for name in ("near", "far")}


@pytest.mark.alone
async def test_space_is_given_back_after_a_backlog(tmp_path: Path) -> None:
    """A drained outbox is a small file again, and the loop does not notice how it becomes one."""
    path, noise = tmp_path / "o.db", random.Random(1)
    async with Outbox(path, ["cloud"], commit_interval=0.05) as outbox:
        feed = outbox.follow("cloud")
        for _ in range(20):
            outbox.accept_many([Publication("t", noise.randbytes(5000)) for _ in range(50)])
            await outbox.flush()
        loop = asyncio.get_running_loop()
        peak = path.stat().st_size
        assert peak > 3_000_000
        while feed.account.waiting:
            feed.acknowledged(ids_of(await take_all(feed, 100)))
        longest, last = 0.0, loop.time()
        async with asyncio.timeout(20):
            while path.stat().st_size > peak / 8:
                await asyncio.sleep(0)
                longest, last = max(longest, loop.time() - last), loop.time()
    assert longest < 0.25  # 50 ms are promised; a shared machine stalls longer by itself


# ---- real file systems


def mount(where: Path, *arguments: str | Path) -> None:
    """Mount, or skip the test and say so."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount: the faults of real file systems are not tried here")
    where.mkdir()
    done = subprocess.run(["mount", *arguments, where], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing may be mounted here, so the faults of real file systems are not tried: {done.stderr}")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 3 MB."""
    home = tmp_path / "small"
    mount(home, "-t", "tmpfs", "-o", "size=3m", "tmpfs")
    yield home
    subprocess.run(["umount", home], check=True)


def fill(ballast: Path) -> None:
    """Leave no byte free."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass


@pytest.mark.system
async def test_a_real_card_that_is_full(small: Path) -> None:
    """Readings flow from memory, it is said once, and the card is used again by itself."""
    async with Outbox(small / "o.db", ["cloud"], commit_interval=0.02) as outbox:
        feed = outbox.follow("cloud")
        ids = put(outbox, 100)
        await outbox.flush()
        ballast = small / "ballast"
        with capture_logs() as logs:
            fill(ballast)
            while outbox.fault is None:
                ids += put(outbox, 200)
                await asyncio.sleep(0)
            assert outbox.fault == "no-space"
            feed.acknowledged(ids_of(await take_all(feed, 100)))
            ballast.unlink()
            await until(lambda: outbox.fault is None)
        assert [entry["log_level"] for entry in logs] == ["error", "info"]
        assert ids_of(await take_all(feed, feed.account.waiting)) == ids[100:]
        assert await outbox.ledger() == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give an ext4 file system of its own in a file."""
    image, home = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 16_000_000)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("without mkfs.ext4 a disk that turns read-only is not tried")
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount(home, "-o", "loop,errors=remount-ro", image)
    yield home
    subprocess.run(["umount", home], check=True)


@pytest.mark.system
async def test_a_real_disk_that_turns_read_only(disk: Path) -> None:
    """As ext4 does after an error: readings flow on, and what was in memory at the end is in the ledger afterwards."""
    source = subprocess.run(["findmnt", "-no", "SOURCE", disk], check=True, capture_output=True, text=True).stdout
    trigger = Path("/sys/fs/ext4", Path(source.strip()).name, "trigger_fs_error")
    if not os.access(trigger, os.W_OK):
        pytest.skip(f"there is no {trigger}: a disk that turns read-only is not tried")
    async with Outbox(disk / "o.db", ["cloud"], commit_interval=0.02) as outbox:
        feed = outbox.follow("cloud")
        ids = put(outbox, 100)
        await outbox.flush()
        with capture_logs() as logs:
            trigger.write_text("1")
            ids += put(outbox, 100)
            await until(lambda: outbox.fault == "disk-error")
            ids += put(outbox, 100)
            assert ids_of(await take_all(feed, 250)) == ids[:250]
            feed.acknowledged(ids[:250])
        assert [entry["log_level"] for entry in logs] == ["error"]
    again = disk.with_name("again")
    shutil.copytree(disk, again)
    async with Outbox(again / "o.db", ["cloud"]) as outbox:
        assert ids_of(await take_all(outbox.follow("cloud"), 100)) == ids[:100], "sent again, and nothing else is there"
        assert [(loss.stream, loss.first_seq, loss.reason) for loss in await outbox.ledger()] == [
            ("boiler", 101, "crash-window")
        ]


@pytest.mark.system
@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("before", ["nothing", "an orderly stop", "a crash"])
async def test_a_card_that_takes_nothing_does_not_keep_the_gateway_from_starting(
    small: Path, how: str, before: str
) -> None:
    """What is on it is sent, what comes flows, no epoch is used twice, and once it is well all is on the card."""
    path = small / "o.db"
    old: list[int] = []
    if before != "nothing":
        async with Outbox(path, ["cloud"]) as outbox:
            old = put(outbox, 100)
            await outbox.flush()
            copy = crashed(path, "copy.db")
        if before == "a crash":
            for suffix in ("", "-wal"):
                Path(f"{copy}{suffix}").rename(f"{path}{suffix}")
    if how == "full":
        fill(small / "ballast")
    else:
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with capture_logs() as logs:
        async with Outbox(path, ["cloud"], commit_interval=0.02) as outbox:
            assert sum("the gateway starts all the same" in entry["event"] for entry in logs) == 1
            feed = outbox.follow("cloud")
            assert ids_of(await take_all(feed, len(old))) == old
            first = put(outbox, 10)
            assert outbox.epoch > (1 if old else 0)
            await until(lambda: outbox.fault is not None)
            assert ids_of(await take_all(feed, 10)) == first
            feed.acknowledged(first[:5])
            if how == "full":
                (small / "ballast").unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", small], check=True)
            await until(lambda: outbox.fault is None)
            feed.left([*old, *first[5:]])
            first += put(outbox, 10)
            await outbox.flush()
            epoch = outbox.epoch
    async with Outbox(path, ["cloud"]) as outbox:
        assert outbox.epoch == epoch + 1
        assert ids_of(await take_all(outbox.follow("cloud"), len(old) + 15)) == old + first[5:]
        assert {loss.reason for loss in await outbox.ledger()} <= ({"crash-window"} if before == "a crash" else set())


async def test_the_ledger_knows_each_of_several_runs_of_which_the_card_took_nothing(tmp_path: Path) -> None:
    """Started and killed again and again while the card takes nothing, it says of each epoch that readings may miss."""

    def killed(path: Path, name: str) -> Path:
        copy = crashed(path, name)
        shutil.copy(f"{path}.mark", f"{copy}.mark")
        return copy

    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=0.3) as outbox:
        put(outbox, 10)
        await outbox.flush()
        path = killed(path, "o0.db")
    epochs = []
    with Card() as card:
        card.restart(during({"write"}, FULL))
        for n in range(1, 4):
            async with Outbox(path, ["cloud"], commit_interval=0.3) as outbox:
                epochs.append(outbox.epoch)
                put(outbox, 10)
                path = killed(path, f"o{n}.db")
    async with Outbox(path, ["cloud"], commit_interval=0.3) as outbox:
        known = {(loss.epoch, loss.stream) for loss in await outbox.ledger() if loss.reason == "crash-window"}
    assert len(set(epochs)) == 3
    assert known >= {(epoch, "?") for epoch in epochs}


def test_the_seam_is_the_library_that_the_gateway_uses(tmp_path: Path) -> None:
    """What fails in these tests is SQLite itself, and it says so in its own words."""
    with Card() as card:
        db = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        for code, name in ((FULL, "SQLITE_FULL"), (WRITE, "SQLITE_IOERR_WRITE"), (SYNC, "SQLITE_IOERR_FSYNC")):
            card.restart(lambda operation, _, code=code: 0 if operation == "read" else code)
            with pytest.raises(sqlite3.OperationalError) as error:
                db.execute("INSERT INTO t VALUES (1)")
            assert error.value.sqlite_errorname == name or code == SYNC
            card.heal()
        db.close()
    assert sqlite3.connect(":memory:").execute("SELECT 1").fetchone() == (1,)


async def test_what_a_failed_transaction_has_left_in_the_log_is_no_damage(tmp_path: Path) -> None:
    """A long transaction that is not synced, a short one in its place, a power cut: the next start finds no fault."""
    path = tmp_path / "o.db"
    with capture_logs(), Card() as card:
        async with Outbox(path, ["cloud"], commit_interval=3600.0) as outbox:
            feed = outbox.follow("cloud")
            put(outbox, 10)
            await outbox.flush()
            put(outbox, 3000)
            card.restart(lambda operation, _: SYNC if operation == "sync" else 0)
            await outbox.flush()
            assert card.failed["sync"] > 0
            feed.acknowledged(ids_of(await take_all(feed, 2990)))
            card.heal()
            put(outbox, 1)
            await outbox.stored(outbox._log.next_id - 1)
            copy = crashed(path, "copy.db")
    with capture_logs() as logs:
        async with Outbox(copy, ["cloud"], commit_interval=3600.0) as outbox:
            assert outbox.follow("cloud").account.waiting >= 21
    assert not [entry for entry in logs if "damaged" in str(entry["event"])]
