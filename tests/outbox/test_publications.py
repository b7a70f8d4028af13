"""The outbox of a program: messages in memory or on the card, how many may wait, and what becomes of each."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.outbox import Outbox, OutboxFull
from gateway.reading import Publication
from tests.outbox.following import Fates, crashed, ids_of, message, take_all, until


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
        await until(lambda: outbox.fault == "no-space")
        waits[0].cancel()
        await asyncio.wait([waits[0]])
        assert not waits[1].done()
        assert released == []
        await outbox._keeper._writer.submit(lambda: connection.execute("PRAGMA max_page_count = 1000000"))
        await asyncio.wait_for(asyncio.gather(*waits[1:]), 10)
        await until(lambda: released == [one])


def test_an_unknown_policy_is_named() -> None:
    """when_full is one of three words."""
    with pytest.raises(ValueError, match=r"when_full is 'reject-new'.*reject"):
        Outbox(None, ["client"], when_full="reject-new")
