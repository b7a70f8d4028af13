"""The outbox of a program: messages in memory or on the card, what becomes of each, and what is known after a crash."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlite_utils import Database

from gateway.outbox import Feed, Outbox, OutboxFull
from gateway.outbox.block import encode
from gateway.outbox.schema import migrations
from gateway.reading import Publication, Reading


async def until(condition: Callable[[], bool], deadline: float = 10.0) -> None:
    """Let the loop run until `condition` holds."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0)


def message(n: int = 0, size: int = 10) -> Publication:
    return Publication(f"t/{n % 3}", n.to_bytes(4, "big") + bytes(size))


def ids_of(readings: Sequence[Reading]) -> list[int]:
    return [reading.id for reading in readings]


async def take_all(feed: Feed, count: int) -> list[Reading]:
    """Take `count`, also from the card."""
    ready = asyncio.Event()
    feed.on_ready(ready.set)
    got: list[Reading] = []
    async with asyncio.timeout(20):
        while len(got) < count:
            ready.clear()
            if readings := feed.take(count - len(got)):
                got += readings
            else:
                await ready.wait()
    return got


def crashed(path: Path, name: str) -> Path:
    """Return a copy of the file as a power cut at this moment would leave it."""
    copy = path.with_name(name)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


class Fates:
    """What the outbox told about each id."""

    def __init__(self, feed: Feed) -> None:
        self.told: dict[int, str | None] = {}
        feed.on_fate = self.tell

    def tell(self, ids: Sequence[int], reason: str | None) -> None:
        for one in ids:
            assert one not in self.told, "once"
            self.told[one] = reason


async def test_in_memory_there_is_no_thread_and_no_file() -> None:
    """path=None: the same faces, and nothing of a card."""
    threads = threading.active_count()
    async with Outbox(None, ["client"]) as outbox:
        assert threading.active_count() == threads
        feed = outbox.follow("client")
        fates = Fates(feed)
        ready: list[int] = []
        feed.on_ready(lambda: ready.append(1))
        first = outbox.accept(message(1))
        await outbox.stored(first)
        ids = outbox.accept_many([message(2), message(3)])
        assert ready == [], "not from within accept"
        await asyncio.sleep(0)
        assert ready == [1], "once for all of them"
        readings = feed.take(10)
        assert ids_of(readings) == [first, *ids]
        assert [reading.seq for reading in readings] == [1, 2, 3]
        assert [reading.values for reading in readings] == [message(1), message(2), message(3)]
        feed.acknowledged(ids_of(readings))
        assert fates.told == dict.fromkeys([first, *ids])
        await outbox.flush()
        await outbox.alive()
        assert (outbox.commits, outbox.used, outbox.tail, await outbox.ledger()) == (0, 0, 0, [])


@pytest.mark.parametrize("durable", [False, True])
async def test_a_hundred_thousand_wait_and_leave_nothing_behind(tmp_path: Path, durable: bool) -> None:
    """They share few transactions, keep their order, and are forgotten when they are delivered."""
    path = tmp_path / "o.db" if durable else None
    count = 100_000
    async with Outbox(path, ["client"], commit_interval=0, when_full="reject") as outbox:
        feed = outbox.follow("client")
        last = outbox.accept_many([message(n) for n in range(count)])[-1]
        await outbox.stored(last)
        assert outbox.commits <= 2
        if durable:
            assert outbox.tail <= 5000
        got = 0
        while got < count:
            readings = await take_all(feed, min(1000, count - got))
            assert [int.from_bytes(one.values.payload[:4], "big") for one in readings] == [*range(got, got + 1000)]
            feed.acknowledged(ids_of(readings))
            got += 1000
        assert feed.account.waiting == 0
        assert outbox.tail == 0
        assert feed.oldest is None
        follower = outbox._log.followers["client"]
        assert (len(follower.acked), len(follower.todo)) == (1, 1)
        assert outbox._log.weight == 0


async def test_no_fate_is_told_before_accept_has_returned() -> None:
    """A message that is dropped on the way in has an id first."""
    async with Outbox(None, ["client"], max_count=1, when_full="drop-newest") as outbox:
        fates = Fates(outbox.follow("client"))
        kept, dropped = outbox.accept(message(1)), outbox.accept(message(2))
        assert fates.told == {}
        await asyncio.sleep(0)
        assert fates.told == {dropped: "full"}
        assert ids_of(outbox.follow("client").take(10)) == [kept]
        (loss,) = await outbox.ledger()
        assert (loss.first_seq, loss.count, loss.reason) == (2, 1, "full")


async def test_what_is_with_a_broker_is_not_dropped_for_something_newer() -> None:
    """drop-oldest: the oldest that no link has taken; when all are with a broker, the new one."""
    async with Outbox(None, ["client"], max_count=3) as outbox:
        feed = outbox.follow("client")
        fates = Fates(feed)
        ids = [outbox.accept(message(n)) for n in range(3)]
        taken = ids_of(feed.take(2))
        newer = outbox.accept(message(3))
        await asyncio.sleep(0)
        assert fates.told == {ids[2]: "full"}
        taken += ids_of(feed.take(2))
        assert taken == [ids[0], ids[1], newer]
        refused = outbox.accept(message(4))
        await asyncio.sleep(0)
        assert fates.told == {ids[2]: "full", refused: "full"}
        feed.acknowledged(taken)
        assert feed.account.delivered == 3


async def test_too_old_in_memory_is_given_up_in_time() -> None:
    """max_age holds without a card as well."""
    async with Outbox(None, ["client"], max_age=0.02) as outbox:
        feed = outbox.follow("client")
        fates = Fates(feed)
        sent = outbox.accept(message(0))
        feed.take(1)
        old = outbox.accept(message(1))
        await until(lambda: old in fates.told)
        assert fates.told == {old: "too-old"}, "what is with a broker may arrive"
        feed.left([sent])
        await until(lambda: sent in fates.told)
        assert feed.account.lost == 2


@pytest.mark.parametrize("durable", [False, True])
async def test_reject_names_the_bound_and_takes_nothing_in(tmp_path: Path, durable: bool) -> None:
    """The caller hears that there is no room, and for what; and there is again once something was delivered."""
    path = tmp_path / "o.db" if durable else None
    async with Outbox(path, ["client"], max_count=3, when_full="reject") as outbox:
        feed = outbox.follow("client")
        outbox.accept_many([message(1), message(2)])
        with pytest.raises(OutboxFull, match="max_count is 3"):
            outbox.accept_many([message(3), message(4)])
        outbox.accept(message(3))
        with pytest.raises(OutboxFull, match=r"3 wait.*max_count is 3"):
            outbox.accept(message(4))
        assert outbox.taken_in == feed.account.waiting == 3
        feed.acknowledged(ids_of(feed.take(1)))
        outbox.accept(message(4))
        assert [reading.seq for reading in feed.take(5)] == [2, 3, 4]
    async with Outbox(None, ["client"], max_size=100, when_full="reject") as outbox:
        with pytest.raises(OutboxFull, match="max_size is 100"):
            outbox.accept(message(1, size=100))


async def test_reject_counts_the_bytes_on_the_card_and_those_to_come(tmp_path: Path) -> None:
    """A durable outbox refuses before the card is over its bound, drops nothing, and takes again when there is room."""
    limit = 1_000_000
    noise = random.Random(1)
    async with Outbox(tmp_path / "o.db", ["client"], max_size=limit, commit_interval=0, when_full="reject") as outbox:
        feed = outbox.follow("client")
        accepted = 0

        async def fill() -> None:
            nonlocal accepted
            for n in range(1000):
                one = outbox.accept(Publication("t", noise.randbytes(10_000)))
                accepted += 1
                if n % 10 == 9:
                    await outbox.stored(one)

        with pytest.raises(OutboxFull, match=f"max_size is {limit}"):
            await fill()
        assert 50 < accepted < 100
        assert feed.account.waiting == accepted
        assert outbox.used <= limit * 1.1
        for _ in range(accepted):
            feed.acknowledged(ids_of(await take_all(feed, 1)))
        assert (feed.account.delivered, feed.account.lost) == (accepted, 0)
        await outbox.flush()
        outbox.accept(message(1))


async def test_a_count_holds_for_what_is_on_the_card(tmp_path: Path) -> None:
    """Also when there are more than may be from an earlier run, and what is with a broker stays."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"]) as outbox:
        outbox.accept_many([message(n) for n in range(9000)])
    async with Outbox(path, ["client"], max_count=100) as outbox:
        feed = outbox.follow("client")
        fates = Fates(feed)
        sent = ids_of(await take_all(feed, 10))
        outbox.accept(message(1))
        await outbox.flush()
        await until(lambda: feed.account.waiting == 100)
        assert not set(sent) & fates.told.keys()
        assert len(fates.told) == feed.account.lost == 8901
        assert sum(loss.count for loss in await outbox.ledger()) == 8901
        feed.acknowledged(sent)
        newest = ids_of(await take_all(feed, 90))
        assert newest[0] > max(fates.told)
        assert newest[-1] == feed.horizon, "the one of this run"


async def test_stored_hurries_the_card_and_many_share_a_transaction(tmp_path: Path) -> None:
    """Nobody waits for commit_interval who asks, and a thousand that ask cost as much as one."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"], commit_interval=3600.0) as outbox:
        ids = [outbox.accept(message(n)) for n in range(1000)]
        await asyncio.wait_for(asyncio.gather(*map(outbox.stored, ids)), 10)
        assert outbox.commits == 1
        with sqlite3.connect(crashed(path, "copy.db")) as copy:
            assert copy.execute("SELECT sum(count) FROM block").fetchone() == (1000,)
        copy.close()
        feed = outbox.follow("client")
        delivered = outbox.accept(message(1))
        feed.acknowledged([*ids, delivered])
        await outbox.stored(delivered)
        assert outbox.commits == 1, "what all have needs no card"


async def test_stored_waits_for_a_card_that_fails_and_a_cancelled_wait_harms_nobody(tmp_path: Path) -> None:
    """The promise is kept when the card is well again."""
    async with Outbox(tmp_path / "o.db", ["client"], commit_interval=0) as outbox:
        connection = outbox._keeper._store._db
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        await outbox._keeper._writer.submit(lambda: connection.execute(f"PRAGMA max_page_count = {pages}"))
        released: list[int] = []
        one = outbox.accept(Publication("t", b"".join(n.to_bytes(4, "big") for n in range(20_000))))
        waits = [asyncio.create_task(outbox.stored(one)) for _ in range(3)]
        outbox.follow("client").release([one], lambda: released.append(one))
        await until(lambda: outbox._keeper._failing)
        waits[0].cancel()
        await asyncio.wait([waits[0]])
        assert not waits[1].done()
        assert released == []
        await outbox._keeper._writer.submit(lambda: connection.execute("PRAGMA max_page_count = 1000000"))
        await asyncio.wait_for(asyncio.gather(*waits[1:]), 10)
        await until(lambda: released == [one])


@pytest.mark.parametrize("interval", [0, 3600.0])
async def test_what_was_released_is_known_after_a_crash(tmp_path: Path, interval: float) -> None:
    """From the moment at which PUBREL may be sent, no later run publishes that message again."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"], commit_interval=interval) as outbox:
        feed = outbox.follow("client")
        ids = list(outbox.accept_many([message(n) for n in range(10)]))
        if interval == 0:
            await outbox.stored(ids[-1])
        assert ids_of(feed.take(10)) == ids
        done: list[Path] = []
        commits = outbox.commits
        for one in ids[2:5]:
            feed.release([one], lambda: done.append(crashed(path, f"copy{len(done)}.db")))
        feed.acknowledged(ids[:1])
        await until(lambda: len(done) == 3)
        assert outbox.commits <= commits + 2, "they share transactions"
        assert feed.released == ids[2:5]
        feed.left(ids)
        assert ids_of(feed.take(10)) == [ids[1], *ids[5:]], "what is released is not taken"
        feed.acknowledged([ids[3]])
        assert feed.released == [ids[2], ids[4]]
    for copy in done:
        async with Outbox(copy, ["client"], commit_interval=interval) as outbox:
            feed = outbox.follow("client")
            assert feed.released == ids[2:5]
            rest = feed.account.waiting - len(feed.released)
            assert not set(ids_of(await take_all(feed, rest))) & set(feed.released)
    async with Outbox(done[-1], ["client"], commit_interval=interval) as outbox:
        feed = outbox.follow("client")
        assert feed.released == ids[2:5]
        assert feed.horizon > ids[-1]
        assert feed.was_sent(ids[0])
        newer = outbox.accept(message(10))
        await outbox.stored(newer)
        order: list[int] = []
        feed.on_ready(lambda: order.extend(ids_of(feed.take(20))))
        feed.unrelease()
        assert feed.take(20) == [], "nothing is taken before the card knows that the exchange begins anew"
        await until(lambda: len(order) >= 10)
        assert order == sorted(order)
        assert set(ids[1:]) | {newer} <= set(order)
        copy = crashed(done[-1], "again.db")
    async with Outbox(copy, ["client"]) as outbox:
        assert outbox.follow("client").released == []


async def test_in_memory_a_release_is_as_sure_as_it_gets() -> None:
    """The same face, at once."""
    async with Outbox(None, ["client"]) as outbox:
        feed = outbox.follow("client")
        ids = list(outbox.accept_many([message(n) for n in range(4)]))
        feed.take(3)
        done: list[int] = []
        feed.release(ids[:2], lambda: done.append(1))
        assert done == [1]
        feed.left(ids[:3])
        assert ids_of(feed.take(9)) == ids[2:]
        feed.unrelease()
        assert ids_of(feed.take(9)) == ids[:2]
        feed.remember({"broker": "a"}, lambda: done.append(2))
        assert done == [1, 2]
        assert feed.session == {"broker": "a"}
        feed.acknowledged(ids[:1])
        assert (feed.oldest, feed.recorded) == (ids[1], ids[1])


async def test_a_session_is_remembered(tmp_path: Path) -> None:
    """Whose session it is, and what was received in it, is known in the next run; and in this one as it was then."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"], commit_interval=3600.0) as outbox:
        feed = outbox.follow("client")
        assert feed.session == {}
        session = {"owner": "mqtt://a", "received": [1, 2]}
        done: list[Path] = []
        feed.remember(session, lambda: done.append(crashed(path, "copy.db")))
        session["received"].append(3)
        await until(lambda: bool(done))
        assert feed.session == {"owner": "mqtt://a", "received": [1, 2]}
        feed.remember({"owner": "mqtt://b"})
        with pytest.raises(TypeError):
            feed.remember({"owner": object()})
    async with Outbox(done[0], ["client"]) as outbox:
        assert outbox.follow("client").session == {"owner": "mqtt://a", "received": [1, 2]}
    async with Outbox(path, ["client"]) as outbox:
        assert outbox.follow("client").session == {"owner": "mqtt://b"}


async def test_the_outbox_knows_what_a_broker_may_have_seen() -> None:
    """What a lost link had sent goes out as a duplicate; what it only held does not."""
    async with Outbox(None, ["client"]) as outbox:
        feed = outbox.follow("client")
        ids = list(outbox.accept_many([message(n) for n in range(6)]))
        assert feed.horizon == ids[0]
        assert ids_of(feed.take(9, upto=ids[4])) == ids[:4]
        assert feed.take(9, upto=ids[4]) == []
        feed.left(ids[2:4], sent=False)
        feed.left(ids[:2])
        assert [feed.was_sent(one) for one in ids] == [True, True, False, False, False, False]
        feed.acknowledged(ids_of(feed.take(9)))
        assert feed.oldest is None


async def test_what_is_recorded_is_what_a_crash_would_not_take_back(tmp_path: Path) -> None:
    """An identifier may be used again only when the card knows the end of whoever had it."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"], commit_interval=0) as outbox:
        feed = outbox.follow("client")
        ids = list(outbox.accept_many([message(n) for n in range(5)]))
        await outbox.stored(ids[-1])
        feed.acknowledged(ids_of(feed.take(3)))
        assert feed.oldest == ids[3]
        assert feed.recorded <= ids[0]
        await outbox.flush()
        assert feed.recorded == ids[3]


async def test_who_waits_for_the_card_to_know_is_told(tmp_path: Path) -> None:
    """With every identifier used up and every message delivered, the card is told at once, and the rest flows."""
    window = 50
    async with Outbox(tmp_path / "o.db", ["client"], commit_interval=3600.0) as outbox:
        feed = outbox.follow("client")
        got: list[int] = []

        def pump() -> None:
            while ids := ids_of(feed.take(20, upto=feed.recorded + window)):
                got.extend(ids)
                feed.acknowledged(ids)

        feed.on_ready(pump)
        ids = list(outbox.accept_many([message(n) for n in range(500)]))
        await until(lambda: feed.account.waiting == 0)
        assert got == ids
        assert outbox.commits <= 12


async def test_the_quarantine_on_the_card(tmp_path: Path) -> None:
    """Set aside with reason and time, over a restart; tried again by its own uplink only; or discarded."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near", "far"]) as outbox:
        near, far = outbox.follow("near"), outbox.follow("far")
        fates = Fates(near)
        ids = list(outbox.accept_many([message(n) for n in range(4)]))
        near.take(4)
        near.quarantine(ids[:2], "too-big")
        assert fates.told == {ids[0]: "too-big", ids[1]: "too-big"}
        assert near.account.quarantined == 2
        assert [(one.uplink, one.reading.id) for one in await outbox.quarantined()] == [
            ("near", one) for one in ids[:2]
        ]
        far.acknowledged(ids_of(far.take(4)))
    async with Outbox(path, ["near", "far"]) as outbox:
        near, far = outbox.follow("near"), outbox.follow("far")
        assert (near.account.waiting, near.account.quarantined) == (2, 2)
        near.quarantine(ids_of(await take_all(near, 2))[:1], "poison")  # from the card
        await until(lambda: near.account.quarantined == 3)
        entries = await outbox.quarantined()
        assert [(one.reading.values, one.reason) for one in entries] == [
            (message(0), "too-big"),
            (message(1), "too-big"),
            (message(2), "poison"),
        ]
        assert all(one.time > 1.6e9 for one in entries)
        assert await outbox.retry([ids[0]]) == 1
        assert await outbox.discard([ids[1]]) == 1
        (again,) = near.take(5)
        assert (again.values, again.seq) == (message(0), 1)
        assert (near.account.waiting, near.account.quarantined, near.account.lost) == (2, 1, 1)
        assert (far.account.waiting, far.take(5)) == (0, [])
        (loss,) = await outbox.ledger()
        assert (loss.uplink, loss.first_seq, loss.count, loss.reason) == ("near", 2, 1, "too-big")
    async with Outbox(path, ["near", "far"]) as outbox:
        near = outbox.follow("near")
        assert (near.account.waiting, near.account.quarantined) == (2, 1)
        assert outbox.follow("far").account.waiting == 0
        assert await outbox.retry() == 1
        assert await outbox.quarantined() == []
        near.acknowledged(ids_of(await take_all(near, 3)))
        assert [loss.count for loss in await outbox.ledger()] == [1]


async def test_the_quarantine_in_memory() -> None:
    """The same face without a card."""
    async with Outbox(None, ["client"]) as outbox:
        feed = outbox.follow("client")
        ids = list(outbox.accept_many([message(n) for n in range(3)]))
        feed.quarantine(ids_of(feed.take(3)), "poison")
        assert [one.reading.id for one in await outbox.quarantined()] == ids
        assert outbox.tail == 0
        assert await outbox.retry(ids[:1]) == 1
        assert [one.values for one in feed.take(3)] == [message(0)]
        assert await outbox.discard() == 2
        assert [(loss.count, loss.reason) for loss in await outbox.ledger()] == [(2, "poison")]
        assert await outbox.quarantined() == []
        account = feed.account
        assert (account.waiting, account.lost, account.quarantined) == (1, 2, 0)


async def test_a_damaged_block_has_the_fate_of_each_of_its_messages(tmp_path: Path) -> None:
    """What cannot be read back is told as lost, each id once, and what is behind it flows."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["client"]) as outbox:
        bad = list(outbox.accept_many([message(n) for n in range(10)]))
        await outbox.stored(bad[-1])
        good = list(outbox.accept_many([message(n) for n in range(10)]))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE block SET data = x'0102' WHERE first_id = ?", (bad[0],))
    db.close()
    async with Outbox(path, ["client"]) as outbox:
        feed = outbox.follow("client")
        fates = Fates(feed)
        assert ids_of(await take_all(feed, 10)) == good
        assert fates.told == dict.fromkeys(bad, "disk-error")
        assert (feed.account.lost, feed.account.waiting) == (10, 10)


async def test_a_file_of_an_earlier_version_is_brought_up(tmp_path: Path) -> None:
    """Readings and acknowledgements of a file that knew neither sessions nor a quarantine go on."""
    path = tmp_path / "o.db"
    db = Database(path)
    migrations.apply(db, stop_before="m002_publications")
    readings = [Reading((1 << 40) + n, "boiler", n, float(n), None, {"n": n}) for n in range(1, 6)]
    data = encode(readings)
    with db.conn:
        db.execute("INSERT INTO epoch VALUES (1, '', 0.0, 0.0)")
        db.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, ?)", (readings[0].id, readings[-1].id, 5, zlib.crc32(data), data)
        )
        db.execute("INSERT INTO uplink VALUES ('cloud', ?)", (f"[[0,{readings[2].id}]]",))
    db.close()
    async with Outbox(path, ["cloud"]) as outbox:
        feed = outbox.follow("cloud")
        assert (feed.released, feed.session) == ([], {})
        assert await take_all(feed, 3) == readings[2:]


def test_an_unknown_policy_is_named() -> None:
    """when_full is one of three words."""
    with pytest.raises(ValueError, match=r"when_full is 'reject-new'.*reject"):
        Outbox(None, ["client"], when_full="reject-new")
