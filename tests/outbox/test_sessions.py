"""What the outbox knows of the exchange with a broker, in this run and after a crash; and the quarantine."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import pytest
from sqlite_utils import Database

from gateway.outbox import Outbox
from gateway.outbox.card.block import encode
from gateway.outbox.card.schema import migrations
from gateway.reading import Reading
from tests.outbox.following import Fates, crashed, ids_of, message, take_all, until


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
        assert (near.account.waiting, near.account.quarantined, near.account.lost) == (2, 1, 2)
        assert (far.account.waiting, far.take(5)) == (0, [])
        # The ledger goes on to explain what was never delivered under its seq, whatever became of it.
        assert [(loss.uplink, loss.first_seq, loss.count, loss.reason) for loss in await outbox.ledger()] == [
            ("near", 1, 2, "too-big"),
            ("near", 3, 1, "poison"),
        ]
    async with Outbox(path, ["near", "far"]) as outbox:
        near = outbox.follow("near")
        assert (near.account.waiting, near.account.quarantined) == (2, 1)
        assert outbox.follow("far").account.waiting == 0
        assert await outbox.retry() == 1
        assert await outbox.quarantined() == []
        near.acknowledged(ids_of(await take_all(near, 3)))
        assert [loss.count for loss in await outbox.ledger()] == [2, 1]


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
        assert [(loss.count, loss.reason) for loss in await outbox.ledger()] == [(3, "poison")]
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
            "INSERT INTO block (first_id, last_id, count, crc, data) VALUES (?, ?, ?, ?, ?)",
            (readings[0].id, readings[-1].id, 5, zlib.crc32(data), data),
        )
        db.execute("INSERT INTO uplink VALUES ('cloud', ?)", (f"[[0,{readings[2].id}]]",))
    db.close()
    async with Outbox(path, ["cloud"]) as outbox:
        feed = outbox.follow("cloud")
        assert (feed.released, feed.session) == ([], {})
        assert await take_all(feed, 3) == readings[2:]
