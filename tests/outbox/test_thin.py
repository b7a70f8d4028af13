"""Thinning: what is left of a long outage is spread over all of it, and every reading that went is accounted for."""

from __future__ import annotations

import random
import sqlite3
from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.announce import Again, Announcer
from gateway.outbox import Loss, Outbox
from gateway.outbox.audit import audit
from gateway.outbox.card import thin
from gateway.outbox.card.opening import connect
from gateway.outbox.card.rows import enter
from gateway.outbox.card.thin import Terraces
from gateway.outbox.inspection import Inspection
from gateway.outbox.ledger import Ledger
from gateway.proof import Proof
from gateway.reading import LEDGER
from tests.outbox.following import Fates, crashed, take_all, until
from tests.test_announce import Receiver

ROOM = 110_000
"""Bytes, of which the log takes some 40,000."""


async def fill(outbox: Outbox, count: int, first: int = 0) -> None:
    """Take in so many readings of a fast device, a fifth of that of a slow one, and an alarm now and then."""
    dice = random.Random(first)
    for n in range(first, first + count):
        outbox.put("boiler", {"n": n, "t": dice.random()})
        if n % 5 == 0:
            outbox.put("meter", {"n": n})
        if n % 1000 == 0:
            outbox.put("alarm", {"n": n})
        if n % 100 == 99:
            await outbox.flush()
    for _ in range(30):  # until it is small enough
        await outbox.flush()


def seqs(path: Path) -> dict[str, list[int]]:
    """Return what is left of each stream, and check the account."""
    left: dict[str, list[int]] = {}
    with Inspection(path) as card:
        for seen in card.readings("cloud"):
            left.setdefault(seen.reading.stream, []).append(seen.reading.seq)
        found = audit(card)
    assert found.problems == []
    for line in found.lines:
        assert line.waiting == len(left.get(line.stream, []))
        assert line.taken_in == line.waiting + line.lost, "nothing was delivered"
    return left


async def test_a_long_outage_keeps_its_shape(tmp_path: Path) -> None:
    """With room for a tenth of it, what is left is spread over all of it, and all that is missing is explained."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"], max_size=ROOM, commit_interval=3600, when_full="thin", high=["alarm"]) as outbox:
        async with Announcer(outbox, 0.01):
            with capture_logs() as logs:
                await fill(outbox, 40_000)
        assert outbox.used <= ROOM
        assert [entry["log_level"] for entry in logs] == ["warning"], "said once"
        losses = [loss for loss in await outbox.ledger() if loss.stream != LEDGER]
    left = seqs(path)
    assert 1000 < len(left["boiler"]) < 40_000 // 10
    for stream, count in (("boiler", 40_000), ("meter", 8000)):
        gaps = [b - a for a, b in pairwise([0, *left[stream], count])]
        assert max(gaps) <= 4 * count / len(left[stream]), "the longest gap is not much longer than the others"
    assert left["alarm"] == list(range(1, 41)), "what is of high priority is all there"
    assert Counter(loss.stream for loss in losses) == {"boiler": 1, "meter": 1}, "one row while it goes on"
    proof = Proof(whole=True)
    async with Outbox(path, ["cloud"], when_full="thin") as outbox, Announcer(outbox, 0.01) as announcer:
        receiver = Receiver(outbox, "cloud")
        Again(announcer, "cloud").connected("mqtt://broker", "5", False)
        announcer.flush()
        while receiver.feed.account.waiting:
            receiver.more.clear()
            if not receiver.take():
                await receiver.more.wait()
    for topic, content, _ in receiver.came:
        proof.take(topic, orjson.dumps(content))
    report = proof.report()
    assert report.unknown == 0, report
    assert {row.topic: row.received for row in report.rows} == {
        f"site/{stream}/data": len(kept) for stream, kept in left.items() if stream != LEDGER
    }
    with Inspection(path) as card:
        assert list(card.readings()) == []


async def test_it_is_bounded_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When everything is thinned as far as can be, the oldest goes, and what is of high priority last of all."""
    monkeypatch.setattr(thin, "LEVELS", 2)
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"], max_size=ROOM, commit_interval=3600, when_full="thin", high=["alarm"]) as outbox:
        for part in range(6):
            await fill(outbox, 5000, 5000 * part)
            assert outbox.used <= ROOM
        losses = [loss for loss in await outbox.ledger() if loss.stream != LEDGER]
    left = seqs(path)
    assert left["boiler"][0] > 1
    assert max(b - a for a, b in pairwise(left["boiler"])) <= 2
    assert left["alarm"] == list(range(1, 31))
    assert len(losses) <= 4, "what is dropped of what was thinned makes no row for each"


async def test_a_cut_at_any_transaction_leaves_an_account_that_adds_up(tmp_path: Path) -> None:
    """A block and what was thinned of it are one transaction, for several uplinks that have got differently far."""
    path = tmp_path / "outbox.db"
    dice = random.Random(1)
    names = ("cloud", "near")
    async with Outbox(path, names, max_size=60_000, commit_interval=3600, when_full="thin") as outbox:
        feed = outbox.follow("near")
        for n in range(6000):
            outbox.put(dice.choice(["boiler", "meter"]), {"n": n, "noise": dice.random()})
            if n % 100 == 99:
                await outbox.flush()
                if dice.random() < 0.2:
                    feed.acknowledged([one.id for one in await take_all(feed, dice.randrange(1, 80))])
                if n % 500 == 499:
                    copy = crashed(path, f"crashed-{n}.db")
                    with Inspection(copy) as card:
                        found = audit(card)
                        standing = {name: card.standing(name) for name in names}
                        waiting = {name: len(list(card.readings(name))) for name in names}
                    assert found.problems == []
                    assert all(line.delivered >= 0 for line in found.lines)
                    assert {name: one.waiting for name, one in standing.items()} == waiting
                    async with Outbox(copy, names) as again:
                        assert {name: again.follow(name).account.waiting for name in names} == waiting
        assert outbox.follow("cloud").account.lost > 1000


async def test_nothing_is_thinned_and_sent_as_well(tmp_path: Path) -> None:
    """A link takes from what is being thinned, also what was read back before: each reading has one end, in order."""
    path = tmp_path / "outbox.db"
    dice = random.Random(2)
    async with Outbox(path, ["cloud"], max_size=60_000, commit_interval=3600, when_full="thin") as outbox:
        feed = outbox.follow("cloud")
        fates = Fates(feed)
        flying: list[int] = []
        sent: list[int] = []
        count = 12_000
        for n in range(count):
            outbox.put("boiler", {"n": n, "noise": dice.random()})
            if n % 40 == 39:
                outbox._keeper.begin()
                flying += [one.id for one in feed.take(dice.randrange(8))]
                await outbox.alive()
                flying += [one.id for one in feed.take(dice.randrange(8))]
                if flying and dice.random() < 0.5:
                    done = flying[: dice.randrange(1, 30)]
                    del flying[: len(done)]
                    sent += done
                    feed.acknowledged(done)
        flying += [one.id for one in await take_all(feed, 1)]
        feed.acknowledged(flying)
        sent += flying
        await outbox.flush()
        rest = [one.id for one in await take_all(feed, feed.account.waiting)]
        feed.acknowledged(rest)
        account = feed.account
        assert (account.waiting, account.delivered + account.lost) == (0, count)
        assert account.lost > 1000
        assert sent + rest == sorted(sent + rest), "in order"
        assert len(fates.told) == count, "every reading has one end"
        assert Counter(fates.told.values()) == {None: account.delivered, "full": account.lost}


async def test_what_is_damaged_is_passed_over(tmp_path: Path) -> None:
    """A block that cannot be read stays as it is, and is lost when it is asked for: so many as were left in it."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"], max_size=ROOM, commit_interval=3600, when_full="thin") as outbox:
        await fill(outbox, 10_000)
    with capture_logs():
        async with Outbox(path, ["cloud"], max_size=ROOM, commit_interval=3600, when_full="thin") as outbox:
            feed = outbox.follow("cloud")
            with sqlite3.connect(path) as db:
                query = "SELECT first_id, count FROM block WHERE level > 1 LIMIT 1 OFFSET 2"
                first, count = db.execute(query).fetchone()
                db.execute("UPDATE block SET data = CAST(zeroblob(9) AS BLOB) WHERE first_id = ?", (first,))
            db.close()
            await fill(outbox, 10_000)
            assert feed.account.lost > 0
            lost, waiting = feed.account.lost, feed.account.waiting
            feed.acknowledged([one.id for one in await take_all(feed, waiting - count)])
            await until(lambda: not feed.take(10) and not feed.account.waiting)
            assert (feed.account.waiting, feed.account.lost) == (0, lost + count)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from([1, 2, 4, 8]))))
def test_levels_are_known_by_id(puts: list[tuple[int, int, int]]) -> None:
    """What was noted last holds; the steps lie side by side; the lowest comes first, and of it the oldest."""
    terraces = Terraces()
    levels = [1] * 100
    for start, length, level in puts:
        terraces.put(start, start + length, level)
        levels[start : start + length] = [level] * length
    steps = terraces.ascending()
    assert steps == sorted(steps, key=lambda step: (step[2], step[0]))
    in_order = sorted(steps)
    assert in_order[0][0] == 0
    assert all(before[1] == after[0] and before[2] != after[2] for before, after in pairwise(in_order))
    starts = [step[0] for step in in_order]
    assert [in_order[bisect_right(starts, at) - 1][2] for at in range(100)] == levels


def loss(first: int, last: int, count: int) -> Loss:
    return Loss("cloud", "boiler", 1, first, last, float(first), float(last), count, "full")


@pytest.mark.parametrize(
    ("losses", "rows"),
    [
        ([(1, 3, 3), (4, 5, 2)], [(1, 5, 5)]),
        ([(1, 3, 3), (5, 6, 2)], [(1, 3, 3), (5, 6, 2)]),
        ([(1, 10, 5), (11, 20, 5), (3, 19, 5)], [(1, 20, 15)]),
        ([(1, 10, 5), (12, 20, 5)], [(1, 20, 10)]),
        ([(1, 10, 5), (14, 20, 3)], [(1, 10, 5), (14, 20, 3)]),
        ([(1, 10, 5), (5, 5, 1)], [(1, 10, 6)]),
        ([(1, 10, 5), (11, 12, 2)], [(1, 10, 5), (11, 12, 2)]),
        ([(5, 10, 3), (3, 12, 4)], [(5, 10, 3), (3, 12, 4)]),
        ([(1, 4, 4), (5, 9, 2), (10, 10, 1), (9, 12, 2)], [(1, 4, 4), (5, 12, 4), (10, 10, 1)]),
        ([(5, 5, 0), (6, 6, 0)], [(5, 5, 0), (6, 6, 0)]),
    ],
)
def test_a_loss_that_goes_on_is_one_row(tmp_path: Path, losses: list[tuple[int, int, int]], rows: object) -> None:
    """Exact ones where they touch, thinned ones where they overlap or are no farther apart than they are within.

    In memory and on the card alike; an entry keeps its first seq, by which a receiver knows it.
    """
    ledger = Ledger()
    with connect(tmp_path / "outbox.db", 100) as db:
        for each in losses:
            ledger.enter(loss(*each))
            enter(db, loss(*each))
        found = db.execute("SELECT first_seq, last_seq, count FROM ledger ORDER BY id").fetchall()
    db.close()
    assert [(one.first_seq, one.last_seq, one.count) for one in ledger.losses] == found == rows
