"""Which reading goes next: urgent ones, then live ones, then the backlog; and only those that an uplink wants."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbox import Outbox
from gateway.outbox.audit import audit
from gateway.outbox.commit import State
from gateway.outbox.inspection import Inspection
from gateway.outbox.log import Log
from gateway.outbox.ranges import Ranges
from gateway.reading import LEDGER
from tests.outbox.following import crashed, ids_of, take_all, until

NEVER = 3600.0
"""A commit_interval within which nothing is written by itself."""


def put(outbox: Outbox, stream: str, count: int = 1) -> list[int]:
    first = outbox._log.next_id
    for _ in range(count):
        outbox.put(stream, {"n": outbox.taken_in})
    return list(range(first, outbox._log.next_id))


def blocks(path: Path) -> list[tuple[int, int, int]]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute("SELECT first_id, last_id, priority FROM block ORDER BY first_id").fetchall()
    finally:
        db.close()


# ---- live first


def a_log(streams: str, *, high: str = "", uplinks: tuple[str, ...] = ("cloud",)) -> Log:
    log = Log(State(1), uplinks, high=high)
    for stream in streams:
        log.put(stream, {"n": 1}, 0.0, None)
    return log


def test_what_is_new_goes_before_what_waits() -> None:
    """After the frontier was set, new readings come first, then as much of the backlog as may; each in order."""
    log = a_log("aaaaaa")
    follower = log.followers["cloud"]
    follower.frontier = log.next_id
    old, new = [range(log.next_id - 6, log.next_id), range(log.next_id, log.next_id + 4)]
    for _ in new:
        log.put("a", {"n": 2}, 0.0, None)
    assert ids_of(log.take(follower, 3, backlog=5)) == list(new[:3])
    assert ids_of(log.take(follower, 4, backlog=2)) == [new[3], *old[:2]]
    assert ids_of(log.take(follower, 4, backlog=0)) == []
    assert ids_of(log.take(follower, 10, backlog=3)) == list(old[2:5])
    assert ids_of(log.take(follower, 10)) == [old[5]]
    assert log.take(follower, 10) == []


def test_what_was_left_is_live_or_backlog_as_it_was() -> None:
    """What is put back goes by its id: the frontier does not move with it."""
    log = a_log("aaaa")
    follower = log.followers["cloud"]
    follower.frontier = log.next_id - 2
    taken = ids_of(log.take(follower, 10))
    first = log.next_id - 4
    assert taken == [first + 2, first + 3, first, first + 1]
    follower.left(taken, sent=True)
    assert ids_of(log.take(follower, 10, backlog=1)) == [first + 2, first + 3, first]


async def test_live_readings_pass_a_backlog_on_the_card(tmp_path: Path) -> None:
    """What comes in goes out at once, while what an earlier run has left is read back page by page."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=NEVER) as outbox:
        put(outbox, "boiler", 9000)
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=NEVER) as outbox:
        feed = outbox.follow("cloud")
        feed.begin_live()
        delivered = []
        for _ in range(30):
            new = put(outbox, "boiler", 10)
            taken = feed.take(500, None, 400)
            assert ids_of(taken)[:10] == new, "at once, whatever has been read back by now"
            delivered += ids_of(taken)
            feed.acknowledged(ids_of(taken))
            await asyncio.sleep(0)
        delivered += [one.id for one in await take_all(feed, feed.account.waiting)]
        assert len(delivered) == len(set(delivered)) == 9300
        old = [one for one in delivered if one < feed.frontier]
        assert old == sorted(old), "the backlog in order"


async def test_live_readings_that_nobody_takes_become_backlog(tmp_path: Path) -> None:
    """A link that stands still for long: what went to the card is read back from there, and nothing is left out."""
    async with Outbox(tmp_path / "o.db", ["cloud"], commit_interval=NEVER) as outbox:
        feed = outbox.follow("cloud")
        put(outbox, "boiler", 10)
        feed.begin_live()
        put(outbox, "boiler", 9000)
        await outbox.flush()  # only the newest of them stay in memory
        put(outbox, "boiler", 10)
        got = ids_of(await take_all(feed, 9020))
        assert len(set(got)) == 9020
        assert got[0] == outbox._log.tail.start, "the newest first, as far as they are in memory"


# ---- priority


async def test_urgent_readings_go_first_from_memory_and_from_the_card(tmp_path: Path) -> None:
    """Alarms go before everything, those of an earlier run as well, and the rest as it would."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=NEVER, high=["alarm"]) as outbox:
        put(outbox, "boiler", 6000)
        early = put(outbox, "alarm", 3)
        put(outbox, "boiler", 100)
        await outbox.flush()
        early += put(outbox, "alarm", 1)
        put(outbox, "boiler", 10)
    async with Outbox(path, ["cloud"], commit_interval=NEVER, high=["alarm"]) as outbox:
        feed = outbox.follow("cloud")
        feed.begin_live()
        assert feed.account.waiting == 6114
        new = put(outbox, "boiler", 5)
        late = put(outbox, "alarm")
        got = ids_of(await take_all(feed, 6120))
        assert len(set(got)) == 6120
        assert got[:1] == late, "it is in memory: nothing has to be waited for"
        assert got[1:6] == new
        first = min(map(got.index, early))
        assert got[first : first + 4] == early
        rest = [one for one in got if one not in {*early, *late, *new}]
        assert rest == sorted(rest)
        assert first < len(got) / 2, "before most of the backlog, as soon as they are read back"


async def test_urgent_readings_that_were_sent_go_first_again(tmp_path: Path) -> None:
    """What a lost link had taken is urgent still."""
    async with Outbox(None, ["cloud"], high=["alarm"]) as outbox:
        feed = outbox.follow("cloud")
        put(outbox, "boiler", 3)
        alarm = put(outbox, "alarm", 2)
        first = ids_of(feed.take(4))
        assert first[:2] == alarm
        feed.left(first)
        again = ids_of(feed.take(10))
        assert again[:2] == alarm
        assert sorted(again) == again[2:5] + alarm
        feed.acknowledged(again)
        assert feed.take(10) == []
        assert feed.account.delivered == 5


async def test_an_urgent_reading_is_on_the_card_at_once(tmp_path: Path) -> None:
    """A power cut right after an alarm does not take it, however long commit_interval is; it has a block of its own."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=NEVER, high=["alarm"]) as outbox:
        normal = put(outbox, "boiler", 10)
        assert outbox.commits == 0
        (alarm,) = put(outbox, "alarm")
        await until(lambda: outbox.commits == 1)
        assert blocks(path) == [(normal[0], normal[-1], 0), (alarm, alarm, 1)]
        copy = crashed(path, "cut.db")
        put(outbox, "boiler")
        assert outbox.commits == 1
    async with Outbox(copy, ["cloud"], commit_interval=NEVER, high=["alarm"]) as outbox:
        assert (await take_all(outbox.follow("cloud"), 1))[0].stream == "alarm"


async def test_alarms_in_every_other_reading_make_no_tiny_blocks(tmp_path: Path) -> None:
    """Where urgent and other readings alternate, they share a block, which counts as urgent."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud"], commit_interval=NEVER, high=["alarm"]) as outbox:
        for _ in range(100):
            put(outbox, "boiler")
            put(outbox, "alarm")
        await outbox.flush()
        assert [priority for _, _, priority in blocks(path)] == [0, 1]


# ---- only some devices


async def test_an_uplink_is_given_what_it_wants(tmp_path: Path) -> None:
    """Each uplink's account knows only readings that are for it, in this run and after a restart."""
    path, devices = tmp_path / "o.db", {"metered": ["boiler"]}
    async with Outbox(path, ["cloud", "metered"], commit_interval=NEVER, devices=devices) as outbox:
        for _ in range(50):
            put(outbox, "boiler", 2)
            put(outbox, "camera", 3)
        put(outbox, LEDGER)
        cloud, metered = outbox.follow("cloud"), outbox.follow("metered")
        assert (cloud.account.waiting, metered.account.waiting) == (251, 101)
        got = metered.take(30)
        assert {one.stream for one in got} == {"boiler"}
        metered.acknowledged(ids_of(got))
        assert len(metered._follower.acked) == 1, "what is not wanted is no gap"
    async with Outbox(path, ["cloud", "metered"], commit_interval=NEVER, devices=devices) as outbox:
        cloud, metered = outbox.follow("cloud"), outbox.follow("metered")
        assert (cloud.account.waiting, metered.account.waiting) == (251, 71)
        rest = await take_all(metered, 71)
        assert {one.stream for one in rest} == {"boiler", LEDGER}
        metered.acknowledged(ids_of(rest))
        assert metered.take(10) == []
        cloud.acknowledged(ids_of(await take_all(cloud, 251)))
        await outbox.flush()
        assert blocks(path) == []
    with Inspection(path) as card:
        assert audit(card).problems == []


async def test_what_only_others_want_never_costs_the_card_a_byte(tmp_path: Path) -> None:
    """An uplink that is away does not make the card hold what it does not want."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["cloud", "metered"], commit_interval=NEVER, devices={"metered": ["boiler"]}) as outbox:
        cloud = outbox.follow("cloud")
        for _ in range(20):
            put(outbox, "camera", 1000)
            cloud.acknowledged(ids_of(cloud.take(1000)))
            await outbox.flush()
        assert outbox.commits == 0
        assert outbox.tail < 10_000, "nor the memory"
        put(outbox, "boiler", 3)
        await outbox.flush()
        assert [last - first for first, last, _ in blocks(path)] == [2]
        assert len(await take_all(outbox.follow("metered"), 3)) == 3


async def test_what_waits_for_an_uplink_is_counted_by_the_card_as_by_the_gateway(tmp_path: Path) -> None:
    """Status and audit of a pulled card know what an uplink wants, also of one that is no longer in the config."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["metered"], commit_interval=NEVER, devices={"metered": ["boiler"]}) as outbox:
        put(outbox, "boiler", 5)
        put(outbox, "camera", 7)
        put(outbox, "boiler", 1)
    async with Outbox(path, ["cloud"], commit_interval=NEVER) as outbox:
        assert outbox.follow("metered").account.waiting == 6
        put(outbox, "camera", 2)
        assert outbox.follow("metered").account.waiting == 6
    with Inspection(path) as card:
        assert card.standing("metered").waiting == 6
        assert [seen.reading.stream for seen in card.readings("metered")] == ["boiler"] * 6
        found = audit(card)
        assert found.problems == []
        assert {(one.uplink, one.stream, one.waiting) for one in found.lines if one.waiting} == {
            ("metered", "boiler", 6),
            ("cloud", "camera", 2),
        }


async def test_what_an_uplink_does_not_want_is_no_loss_to_it(tmp_path: Path) -> None:
    """What is dropped for want of room is in the ledger of those who wanted it, and of nobody else."""
    async with Outbox(None, ["cloud", "metered"], devices={"metered": ["boiler"]}, max_count=5) as outbox:
        put(outbox, "boiler", 3)
        put(outbox, "camera", 12)
        losses = await outbox.ledger()
        cloud, metered = outbox.follow("cloud").account, outbox.follow("metered").account
        assert {(loss.uplink, loss.stream) for loss in losses} == {("cloud", "boiler"), ("cloud", "camera")}
        assert (cloud.waiting, cloud.lost) == (5, 10)
        assert (metered.waiting, metered.lost) == (3, 0)


# ---- the law


STREAMS = ("boiler", "camera", "alarm")


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from(STREAMS), st.integers(1, 5)),
            st.tuples(st.just("take"), st.integers(1, 8), st.integers(0, 8)),
            st.tuples(st.sampled_from(["acknowledge", "leave", "live", "commit"])),
        ),
        max_size=60,
    ),
    wants=st.sampled_from([None, ("boiler", "alarm")]),
)
@settings(max_examples=200)
def test_each_reading_is_taken_once_and_in_the_order_of_its_lane(
    steps: list[tuple[object, ...]], wants: tuple[str, ...] | None
) -> None:
    """Urgent before live before backlog, each by id; what is not wanted never; at the end everything was delivered."""
    log = Log(State(1), ["cloud"], high=["alarm"], devices=None if wants is None else {"cloud": wants})
    follower = log.followers["cloud"]
    streams: dict[int, str] = {}
    delivered: set[int] = set()
    flying: list[int] = []

    def took(limit: int, backlog: int) -> list[int]:
        taken = log.take(follower, limit, backlog=backlog)
        for shelf, _, _ in follower.wanted(log.tail.start):
            raise AssertionError(f"all is in memory: {shelf}")
        if follower.passed_over:
            log.settle()
        ids = ids_of(taken)
        assert not set(ids) & (delivered | set(flying))
        lane = {one: 0 if streams[one] == "alarm" else 1 if one >= follower.frontier else 2 for one in ids}
        assert ids == sorted(ids, key=lambda one: (lane[one], one))
        assert sum(lane[one] == 2 for one in ids) <= (backlog if follower.frontier else limit)
        assert all(wants is None or streams[one] in wants for one in ids)
        return ids

    for name, *arguments in steps:
        if name == "put":
            stream, count = arguments
            for _ in range(int(str(count))):
                streams[log.put(str(stream), {"n": 1}, 0.0, None)] = str(stream)
        elif name == "take":
            limit, backlog = map(int, map(str, arguments))
            flying += took(limit, backlog)
        elif name == "acknowledge" and flying:
            delivered.update(flying[::2])
            log.acknowledge(follower, flying[::2])
            del flying[::2]
        elif name == "leave":
            follower.left(flying, sent=True)
            flying.clear()
        elif name == "live":
            follower.frontier = log.next_id
        elif name == "commit":
            commit = log.begin()
            assert all(follower.lacks(one) for one in commit.readings)
            log.finish(commit, 1)
        wanted = {one for one, stream in streams.items() if wants is None or stream in wants}
        assert follower.account.waiting == len(wanted - delivered)
    follower.left(flying, sent=True)
    flying.clear()
    while more := took(7, 7):
        log.acknowledge(follower, more)
        delivered.update(more)
    assert follower.account.delivered == len(delivered) == len(wanted if steps else ())
    assert not follower.urgent
    assert list(Ranges(follower.todo)) == [follower.todo.first]
