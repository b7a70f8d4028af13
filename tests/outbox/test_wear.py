"""What is written to the card, and why: counted, and as little as was measured to be possible."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bench.wear import outage
from gateway.cli.outbox.status import _wear as in_words
from gateway.outbox import Outbox
from gateway.outbox.card import wear
from gateway.outbox.card.block import COUNT
from gateway.outbox.card.rows import LAG
from gateway.outbox.card.store import Store
from gateway.outbox.card.wear import CAUSES, CHECKPOINT, PAGE_SIZE, Meter, Wear, log_length
from gateway.outbox.committer import SPARE, STEP
from gateway.outbox.feed import PAGE
from gateway.outbox.log import Log
from gateway.reading import Publication
from tests.cli.outbox_of import Hands
from tests.faults.scenario import settled
from tests.outbox.following import crashed, ids_of, message, take_all, until

SHM = "/dev/shm" if Path("/dev/shm").is_dir() else "/var/tmp"  # where a sync costs nothing


def put(outbox: Outbox, count: int, stream: str = "boiler") -> None:
    for n in range(count):
        outbox.put(stream, {"n": n, "temperature": 20 + n / 10})


def test_an_outage_writes_less_than_it_delivers() -> None:
    """At 100 readings/s of 120 bytes, with all that an outage costs: 0.5 of the payload is written, 0.25 kept."""
    cost = outage(600, disk=SHM)
    assert 118 < cost.payload < 122
    assert cost.written < 0.5 * cost.payload
    assert cost.kept < 0.25 * cost.payload
    assert cost.left < 0.1 * 600 * 100 * cost.payload, "the file is short again"
    assert cost.causes["commit"] > cost.causes["checkpoint"] > cost.causes["acknowledge"] > 0


def test_a_slow_drain_writes_less_than_it_delivers() -> None:
    """Also when acknowledgements come in a trickle, and each second of them is noted, for longer than the outage."""
    cost = outage(300, drained=50, disk=SHM)
    assert cost.written < 1.0 * cost.payload


def test_bytes_are_put_down_to_their_cause(tmp_path: Path) -> None:
    """What is written within another cause is its own; what somebody else writes meanwhile is nobody's."""
    meter = Meter()

    def write(count: int) -> None:
        with (tmp_path / "x").open("ab", buffering=0) as file:
            file.write(bytes(count))

    write(1)
    with meter.charged("commit"):
        write(10)
        with meter.charged("mark"):
            write(100)
        other = threading.Thread(target=write, args=(1 << 20,))
        other.start()
        other.join()
        write(1000)
    write(10_000)
    with suppress(OSError), meter.charged("checkpoint"):
        write(100_000)
        raise OSError("full")
    assert meter.wear(1.0).bytes == {**dict.fromkeys(CAUSES, 0), "commit": 1010, "mark": 100, "checkpoint": 100_000}


def test_no_number_is_better_than_a_wrong_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel that does not count, or stops to, makes the figures unknown, and in words it is said why."""
    for found in ("", "read_bytes: 4\nwrite_bytes: 7\n"):
        (tmp_path / "io").write_text(found)
        monkeypatch.setattr(wear, "_IO", tmp_path / "io")
        meter = Meter()
        with meter.charged("commit"):
            pass
        told = meter.wear(3600.0)
        assert (told.bytes, told.per_reading, told.per_day) == (None, None, None)
    assert "does not count" in in_words({"bytes": None})


def test_figures_are_projected_from_the_run_so_far() -> None:
    """A day is what the time so far says, without the start; before a minute is over nothing can be said."""
    causes = {**dict.fromkeys(CAUSES, 0), "commit": 500, "checkpoint": 100, "set-up": 5000}
    told = Wear(600.0, causes, 10)
    assert (told.per_reading, told.per_day) == (560.0, 600 * 144)
    assert Wear(59.0, causes, 0).per_day is None
    assert Wear(600.0, causes, 0).per_reading is None


async def test_every_byte_of_the_writer_is_counted(tmp_path: Path) -> None:
    """The causes together are what the writer's thread has written, and a healthy gateway writes next to nothing."""
    hands = Hands()
    async with Outbox(tmp_path / "o.db", ["cloud"], clock=hands.clock) as outbox:
        before = outbox.wear
        assert before is not None
        assert before.bytes is not None
        set_up = sum(before.bytes.values())
        assert set_up == before.bytes["set-up"] + before.bytes["mark"]
        feed = outbox.follow("cloud")
        put(outbox, 1000)
        feed.acknowledged(ids_of(await take_all(feed, 1000)))
        await outbox.flush()
        told = outbox.wear
        assert told is not None
        assert told.bytes is not None
        assert (sum(told.bytes.values()), told.readings) == (set_up, 0), "delivered before it had to be on the card"
        put(outbox, 1000)
        await outbox.flush()
        feed.acknowledged(ids_of(await take_all(feed, 1000)))
        await outbox.flush()
        hands.boot += 7200.0
        told = outbox.wear
        assert told is not None
        assert told.bytes is not None
        thread = await outbox._keeper._writer.submit(wear.written)  # type: ignore[attr-defined]
        assert sum(told.bytes.values()) == thread
        assert told.bytes["commit"] > told.bytes["acknowledge"] > 0
        assert (told.readings, told.seconds) == (1000, 7200.0)


def test_the_words_of_status() -> None:
    """Causes that cost nothing are left out, and so is what cannot be told yet."""
    told = {"seconds": 7380, "readings": 0, "bytes": dict.fromkeys(CAUSES, 0), "per_reading": None, "per_day": None}
    told["bytes"] |= {"mark": 8192, "set-up": 30_000}  # type: ignore[operator]
    assert in_words(told) == "Written to the card in 2 h 3 min: 38.2 kB (mark 8.19 kB, set-up 30 kB)."
    told |= {"readings": 12_000, "per_reading": 41.2, "per_day": 5_670_000}
    assert in_words(told).endswith(
        "; 5.67 MB a day at this rate; 41.2 bytes for each of 12 000 readings that went there."
    )


def test_the_log_is_written_back_when_it_is_long_and_not_before(tmp_path: Path) -> None:
    """It stays as short as a sixteenth of a small max_size, and a transaction is over before it is written back."""
    path, lengths = tmp_path / "o.db", []
    store = Store(path, max_size=1_000_000, keep_free=0, uplinks=["cloud"])
    state, _ = store.open("boot", 0.0, 1.0, 1000.0)
    log = Log(state, ["cloud"])
    for n in range(200):
        log.put("", message(n, size=700), 1000.0 + n, None)
        commit = log.begin()
        written = store.commit(commit, None)
        log.finish(commit, written.blocks)
        before = log_length(path)
        store.checkpoint()
        lengths.append((before, log_length(path)))
        assert written.is_long == (before >= 1_000_000 // 16 // PAGE_SIZE)
        assert lengths[-1][1] == (0 if written.is_long else before)
    store.close()
    assert max(before for before, _ in lengths) < 1_000_000 // 16 // PAGE_SIZE + 20
    assert sum(after == 0 for _, after in lengths) > 1
    assert log_length(path) == CHECKPOINT, "nobody can say any more"


async def test_it_is_written_back_by_itself(tmp_path: Path) -> None:
    """However much is written, the log of a running outbox keeps its length."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], max_size=1_000_000) as outbox:
        for n in range(100):
            outbox.accept(message(n, size=700))
            await outbox.flush()
            await outbox.alive()
            assert log_length(path) < 1_000_000 // 16 // PAGE_SIZE
        told = outbox.wear
        assert told is not None
        assert told.bytes is not None
        assert told.bytes["checkpoint"] > 0


async def test_a_reader_beside_it_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    """The log cannot be written back past what somebody reads; once he is gone, it is."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], max_size=1_000_000) as outbox:
        outbox.accept(message(0))
        await outbox.flush()
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM block").fetchone()
        for n in range(60):
            outbox.accept(message(n, size=700))
            await outbox.flush()
        assert outbox.fault is None
        assert log_length(path) > 60
        await outbox.alive()  # nothing that was asked for while he read is still to be done
        reader.close()
        outbox.accept(message(1))
        await outbox.flush()
        await outbox.alive()
        assert log_length(path) == 0


@pytest.mark.parametrize("delivered", [False, True], ids=["none", "most"])
async def test_after_a_power_cut_the_newest_seq_is_known(tmp_path: Path, delivered: bool) -> None:
    """The row of a run is not written with each block: the newest blocks tell, whatever was delivered or deleted."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=3600.0) as outbox:
        feed, copies = outbox.follow("cloud"), []
        for step in range(2 * LAG + 3):
            if step == 1:
                put(outbox, 3, "door")  # never on the card, and then no more
                taken = feed.take(1000)
                feed.acknowledged([one.id for one in taken if one.stream == "door"])
                feed.left([one.id for one in taken if one.stream != "door"])
            put(outbox, 2, "boiler")
            put(outbox, step % 2, "meter")
            put(outbox, step == 2, "hatch")  # and no more
            if delivered and step % 5 == 4:
                feed.acknowledged(ids_of(feed.take(7)))
            await outbox.flush()
            copies.append((crashed(path, f"copy{step}.db"), dict(outbox._log._seq)))
    for copy, seqs in copies:
        async with Outbox(copy, ["cloud"]) as outbox:
            assert {loss.stream: loss.first_seq - 1 for loss in outbox.found} == seqs


@pytest.mark.alone
async def test_space_is_given_back_without_holding_up_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drained backlog of 32 MB leaves a short file, and nothing on the loop's side takes 50 ms of CPU for it."""
    path, noise = tmp_path / "o.db", os.urandom(1_000_000)
    longest, run = [0.0], asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        longest.append(time.thread_time() - began)

    async with Outbox(path, ["cloud"]) as outbox:
        for _ in range(32):
            outbox.accept_many([Publication("t", noise[at : at + 1000]) for at in range(0, len(noise), 1000)])
            await outbox.flush()
        assert path.stat().st_size > 25_000_000
        monkeypatch.setattr(asyncio.Handle, "_run", timed)
        feed = outbox.follow("cloud")
        while feed.account.waiting:
            feed.acknowledged(ids_of(await take_all(feed, 1000)))
            await asyncio.sleep(0)
        await settled(outbox)
        async with asyncio.timeout(60):
            while path.stat().st_size > 2_000_000:
                await asyncio.sleep(0.01)
        monkeypatch.undo()
        told = outbox.wear
    assert told is not None
    assert told.bytes is not None
    assert 0 < told.bytes["give-back"] < 3_000_000, "what is given back is not written first"
    assert len(longest) > 100
    assert max(longest) < 0.05


async def test_no_step_of_a_drain_grows_with_the_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back and given back at once is bounded: so many readings, so many pages, whatever waits."""
    noise = os.urandom(400_000)
    given: list[int] = []
    read: list[int] = []
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=0.01) as outbox:
        store = outbox._store
        assert store is not None
        for _ in range(12):
            outbox.accept_many([Publication("t", noise[at : at + 400]) for at in range(0, len(noise), 400)])
            await outbox.flush()

        def spare() -> int:
            return int(store._db.execute("PRAGMA freelist_count").fetchone()[0])

        def give_back(pages: int, keep: int) -> bool:
            before = spare()
            more = Store.give_back(store, pages, keep)
            given.append(before - spare())
            return more

        def read_back(start: int, upto: int, limit: int) -> Any:
            found = Store.read(store, start, upto, limit)
            read.append(len(found[0].readings))
            return found

        monkeypatch.setattr(store, "give_back", give_back)
        monkeypatch.setattr(store, "read", read_back)
        feed = outbox.follow("cloud")
        while feed.account.waiting:
            feed.acknowledged(ids_of(await take_all(feed, 500)))
            await outbox.flush()
        await settled(outbox)
        await until(lambda: bool(given) and spare() <= SPARE // 4, 30)
    assert len(given) > 5
    assert max(given) == STEP
    assert len(read) > 3
    assert max(read) < PAGE + COUNT, "a page, and what is left of the block that it ends in"
