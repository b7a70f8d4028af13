"""The outbox on a real file: when it writes, what it keeps, what it gives up, and what it says."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.clock import Clock
from gateway.outbox import Feed, Loss, Outbox, OutboxInUse
from gateway.outbox.brake import ROOM
from gateway.outbox.card.room import allowed
from gateway.outbox.card.store import Store
from gateway.reading import Reading


async def until(condition: Callable[[], bool], deadline: float = 10.0) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0)


def put(outbox: Outbox, count: int, stream: str = "boiler", size: int = 1) -> Awaitable[None] | None:
    waiting = None
    for _ in range(count):
        waiting = outbox.put(stream, {"n": outbox.taken_in, "text": "x" * size})
    return waiting


async def drain(feed: Feed) -> list[int]:
    """Take and acknowledge all that waits; return the values of n."""
    ready = asyncio.Event()
    feed.on_ready(ready.set)
    got: list[int] = []
    async with asyncio.timeout(20):
        while feed.account.waiting:
            ready.clear()
            readings = feed.take(700)
            if readings:
                got += [int(reading.values["n"]) for reading in readings]
                feed.acknowledged([reading.id for reading in readings])
            else:
                await ready.wait()
    return got


def ledger(path: Path) -> list[Loss]:
    store = Store(path, max_size=10**9, keep_free=0)
    store.open("", 0.0)
    try:
        return store.ledger()
    finally:
        store.close()


async def test_a_reading_can_be_taken_as_soon_as_it_is_put(tmp_path: Path) -> None:
    """With a broker that answers, nothing waits for the card, and nothing is written to it."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=1.0) as outbox:
        feed = outbox.follow("cloud")
        ready = asyncio.Event()
        feed.on_ready(ready.set)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 1.2:
            put(outbox, 5)
            ready.clear()
            await ready.wait()
            readings = feed.take(100)
            assert len(readings) == 5
            feed.acknowledged([reading.id for reading in readings])
        assert outbox.commits == 0
        assert feed.account.waiting == 0
        assert outbox.tail == 0


async def test_what_is_not_acknowledged_is_on_the_card_within_the_interval(tmp_path: Path) -> None:
    """A reading that is older than commit_interval can be read from the file by somebody else."""
    clock = Clock()
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.1, clock=clock) as outbox:
        put(outbox, 3)
        taken = clock.boot()
        await until(lambda: outbox.commits > 0)
        late = clock.boot() - taken
        with sqlite3.connect(f"file:{tmp_path / 'o.db'}?mode=ro", uri=True) as other:
            assert other.execute("SELECT sum(count) FROM block").fetchone()[0] == 3
        other.close()
        assert late < 5.0, "it was due after 0.1 s"


async def test_offline_one_transaction_writes_all_that_is_pending(tmp_path: Path) -> None:
    """With the broker away, readings that come one by one share one transaction an interval."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.3) as outbox:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + 1.0:
            put(outbox, 1)
            await asyncio.sleep(0)
        assert outbox.commits <= 4
        assert outbox.taken_in > 10


async def test_tidying_up_does_not_hold_up_what_is_due(tmp_path: Path) -> None:
    """A transaction that only notes acknowledgements may wait a second; a new reading may not."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.05) as outbox:
        feed = outbox.follow("cloud")
        put(outbox, 10)
        await until(lambda: outbox.commits == 1)
        feed.acknowledged([reading.id for reading in feed.take(5)])
        order: list[str] = []
        late = asyncio.get_running_loop().call_later(0.8, order.append, "a second is nearly over")
        put(outbox, 1)
        await until(lambda: outbox.commits == 2)
        late.cancel()
        assert order == []


async def test_interval_zero_shows_nothing_before_it_is_on_the_card(tmp_path: Path) -> None:
    """commit_interval = "0s": on the card before it is sent."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0) as outbox:
        feed = outbox.follow("cloud")
        put(outbox, 10)
        assert feed.take(100) == []
        await until(lambda: outbox.commits > 0)
        assert len(feed.take(100)) == 10


async def test_a_clean_stop_and_a_new_start_lose_nothing(tmp_path: Path) -> None:
    """What was waiting waits again, in order, for each uplink on its own; what was delivered does not come back."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near", "far"]) as outbox:
        put(outbox, 5000)
        near = outbox.follow("near")
        near.acknowledged([reading.id for reading in near.take(3000)])
    async with Outbox(path, ["near", "far"]) as outbox:
        assert outbox.epoch == 2
        assert outbox.follow("near").account.waiting == 2000
        assert await drain(outbox.follow("near")) == list(range(3000, 5000))
        assert await drain(outbox.follow("far")) == list(range(5000))
    async with Outbox(path, ["near", "far"]) as outbox:
        assert outbox.follow("far").account.waiting == 0
        assert outbox.follow("far").take(10) == []


async def test_what_was_left_goes_first(tmp_path: Path) -> None:
    """After a lost link the readings that were in flight are sent again before anything newer."""
    async with Outbox(tmp_path / "o.db", ["cloud"]) as outbox:
        feed = outbox.follow("cloud")
        put(outbox, 20)
        first = [reading.id for reading in feed.take(10)]
        feed.acknowledged(first[:4])
        feed.left(first[4:])
        again = [reading.id for reading in feed.take(100)]
        assert again[:6] == first[4:]
        again += [reading.id for reading in feed.take(100)]
        assert len(again) == 16


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two gateways on one outbox would each deliver half: the second is told who has it, and what to do."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"]):
        code = (
            "import asyncio, pathlib, sys\n"
            "from gateway.outbox import Outbox, OutboxInUse\n"
            "async def main():\n"
            "    try:\n"
            "        async with Outbox(pathlib.Path(sys.argv[1]), ['cloud']): pass\n"
            "    except OutboxInUse as error:\n"
            "        print(error)\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path), stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert f"in use by process {os.getpid()}" in out.decode()
    with pytest.raises(OutboxInUse):
        async with Outbox(path, ["cloud"]), Outbox(path, ["cloud"]):
            pass


async def test_an_opening_that_is_cancelled_leaves_the_outbox_free(tmp_path: Path) -> None:
    """Whoever gives up while the file is being opened does not keep the next one out."""
    path = tmp_path / "o.db"
    opening = asyncio.create_task(Outbox(path, ["cloud"]).__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with Outbox(path, ["cloud"]) as outbox:
        assert outbox.taken_in == 0


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
async def test_a_full_outbox_keeps_its_size_and_says_what_went(tmp_path: Path, policy: str) -> None:
    """Over max_size readings go into the ledger, the oldest or the newest, and the account stays right."""
    path = tmp_path / "o.db"
    limit = 1_000_000
    noise = random.Random(1)
    async with Outbox(path, ["cloud"], commit_interval=0.02, max_size=limit, when_full=policy) as outbox:
        feed = outbox.follow("cloud")
        with capture_logs() as logs:
            for _ in range(60):
                for _ in range(100):
                    outbox.put("boiler", {"n": outbox.taken_in, "text": noise.randbytes(300).hex()})
                commits = outbox.commits
                await until(lambda before=commits: outbox.commits > before)
                assert outbox.used <= limit * 1.25
        account = feed.account
        assert account.lost > 1000
        assert account.lost + account.waiting == outbox.taken_in == 6000
        assert sum("gives readings up" in entry["event"] for entry in logs) == 1
        left = await drain(feed)
    rows = ledger(path)
    assert sum(row.count for row in rows) == 6000 - len(left)
    assert all(row.reason == "full" and row.last_seq - row.first_seq + 1 == row.count for row in rows)
    lost = {n for row in rows for n in range(row.first_seq - 1, row.last_seq)}
    assert lost | set(left) == set(range(6000))
    assert not lost & set(left)
    if policy == "drop-oldest":
        assert len(rows) == 1, "one loss that goes on is one row"
        assert left[-1] == 5999
    else:
        assert left[0] == 0


async def test_a_card_without_room_is_said_at_start_and_the_ledger_knows_why(tmp_path: Path) -> None:
    """Where keep_free leaves the outbox nothing, the user learns it before an outage does, and which key to change."""
    path = tmp_path / "o.db"
    with capture_logs() as logs:
        async with Outbox(path, ["cloud"], keep_free=1 << 60) as outbox:
            put(outbox, 10)
            await outbox.flush()
            await until(lambda: outbox.follow("cloud").account.lost == 10)
    said = [entry["event"] for entry in logs]
    assert "keep_free" in said[0]
    assert sum("gives readings up" in event for event in said) == 1
    (row,) = ledger(path)
    assert (row.reason, row.count) == ("no-space", 10)


def test_what_is_allowed_leaves_the_card_its_free_space() -> None:
    """keep_free counts whatever max_size says; space inside the file does not count as taken from the card."""
    assert allowed(1000, size=100, free=10_000, keep_free=500) == 1000
    assert allowed(1000, size=100, free=600, keep_free=500) == 200
    assert allowed(1000, size=100, free=300, keep_free=500) == 0


async def test_too_old_readings_go_into_the_ledger(tmp_path: Path) -> None:
    """max_age bounds how long a reading is worth keeping."""
    path = tmp_path / "o.db"
    now = [1000.0]
    clock = Clock(boot=lambda: now[0], wall=lambda: now[0] + 1e9, boot_id="b")
    async with Outbox(path, ["cloud"], max_age=3600.0, clock=clock) as outbox:
        put(outbox, 10)
        await outbox.flush()
        now[0] += 7200
        put(outbox, 1)
        await outbox.flush()
        await until(lambda: outbox.follow("cloud").account.lost == 10)
        assert outbox.follow("cloud").account.waiting == 1
    (row,) = ledger(path)
    assert (row.reason, row.first_seq, row.last_seq, row.count) == ("too-old", 1, 10, 10)
    assert row.first_time == pytest.approx(1e9 + 1000)


async def test_a_full_card_is_said_once_and_used_again_by_itself(tmp_path: Path) -> None:
    """When the card takes nothing, readings stay in memory and flow; when it does again, they are written."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.02) as outbox:
        put(outbox, 10)
        await until(lambda: outbox.commits == 1)
        connection = outbox._store._db
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        await outbox._keeper._writer.submit(lambda: connection.execute(f"PRAGMA max_page_count = {pages}"))
        with capture_logs() as logs:
            put(outbox, 2000, size=200)
            await until(lambda: len(logs) > 0)
            feed = outbox.follow("cloud")
            feed.acknowledged([reading.id for reading in feed.take(500)])
            assert feed.account.waiting == 1510, "readings flow while the card is full"
            await outbox._keeper._writer.submit(lambda: connection.execute("PRAGMA max_page_count = 1000000"))
            await until(lambda: outbox.commits == 2)
        said = [(entry["log_level"], entry["event"]) for entry in logs]
        assert said == [
            ("error", "the outbox cannot be written; readings stay in memory until it can"),
            ("info", "the outbox can be written again"),
        ]
        assert len(await drain(feed)) == 1510


async def test_a_device_waits_when_too_much_is_only_in_memory(tmp_path: Path) -> None:
    """A flooding device is slowed down, its readings are kept, and another device does not wait."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=60.0) as outbox:
        waiting = put(outbox, ROOM, stream="flood")
        assert waiting is not None
        assert outbox.put("calm", {"n": 1}) is None
        await asyncio.wait_for(waiting, 10)
        assert outbox.commits == 1, "the card has made room, long before the interval was over"


async def test_ids_and_epochs_are_never_used_twice(tmp_path: Path) -> None:
    """A run that wrote nothing still has had its epoch."""
    path = tmp_path / "o.db"
    ids: set[int] = set()
    for epoch in range(1, 6):
        async with Outbox(path, ["cloud"]) as outbox:
            feed = outbox.follow("cloud")
            put(outbox, 10)
            readings = feed.take(10)
            assert [reading.seq for reading in readings] == list(range(1, 11))
            assert {reading.epoch for reading in readings} == {epoch}
            ids |= {reading.id for reading in readings}
            feed.acknowledged([reading.id for reading in readings])
    assert len(ids) == 50


async def test_a_new_uplink_starts_now_and_a_removed_one_keeps_its_claim(tmp_path: Path) -> None:
    """Nobody's readings vanish because a line was taken out of the config."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["old"]) as outbox:
        put(outbox, 10)
    async with Outbox(path, ["new"]) as outbox:
        assert outbox.strangers == {"old": 10}
        assert outbox.follow("new").account.waiting == 0
        put(outbox, 5)
        assert len(await drain(outbox.follow("new"))) == 5
    async with Outbox(path, ["old", "new"]) as outbox:
        assert len(await drain(outbox.follow("old"))) == 15


async def test_a_reading_gets_the_time_that_the_clock_has_when_it_is_sent(tmp_path: Path) -> None:
    """A clock that is set later corrects a reading, also when an earlier run of the same boot took it in."""
    path = tmp_path / "o.db"
    now, offset = [500.0], [0.0]
    clock = Clock(boot=lambda: now[0], wall=lambda: now[0] + offset[0], boot_id="this")
    async with Outbox(path, ["cloud"], clock=clock) as outbox:
        put(outbox, 1)
    clock = Clock(boot=lambda: now[0], wall=lambda: now[0] + offset[0], boot_id="this")
    async with Outbox(path, ["cloud"], clock=clock) as outbox:
        now[0] = 600.0
        put(outbox, 1)
        outbox.put("boiler", {"n": 3}, 123.0)
        offset[0] = 1.7e9
        feed = outbox.follow("cloud")
        readings: list[Reading] = []
        await until(lambda: len(readings.extend(feed.take(10)) or readings) == 3)
        assert feed.moments(readings, 5.0) == [
            (1_700_000_500_000, True, None),  # of an earlier run
            (1_700_000_600_000, False, None),
            (123_000, False, None),
        ]
        now[0] = 606.0
        assert feed.moments(readings[1:2], 5.0) == [(1_700_000_600_000, True, None)]
