"""Every loss is told to whoever misses the readings, once a second at most, and no telling causes another loss."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.announce import Again, Announcer, WithLedger
from gateway.formats import FORMATS
from gateway.outbox import Loss, Outbox
from gateway.proof import Proof
from gateway.reading import LEDGER, Reading
from gateway.uplink import Readings
from tests.outbox.following import take_all

EVERY = 0.05


def route(outbox_uplink: str, qos: int = 1) -> WithLedger:
    readings = Readings(lambda stream: f"site/{stream}/data", FORMATS["json"], qos)
    return WithLedger(readings, outbox_uplink, "sensors/gw/ledger")


class Receiver:
    """Takes what an uplink has to deliver, acknowledges it, and keeps it as it would be published."""

    def __init__(self, outbox: Outbox, uplink: str, qos: int = 1) -> None:
        self.feed = outbox.follow(uplink)
        self.route = route(uplink, qos)
        self.came: list[tuple[str, dict[str, Any], int]] = []
        self.more = asyncio.Event()
        self.feed.on_ready(self.more.set)

    async def until(self, entries: int) -> list[dict[str, Any]]:
        """Take messages until so many are the ledger's, and return those."""
        async with asyncio.timeout(10):
            while len(self.entries) < entries:
                self.more.clear()
                if not self.take():
                    await self.more.wait()
        return self.entries

    def take(self) -> list[Reading]:
        taken = self.feed.take(1000)
        for batch in self.route.batches(taken, self.feed) if taken else ():
            self.came += [(topic.decode(), orjson.loads(payload), batch.qos) for topic, payload, _ in batch.messages]
        if taken:
            self.feed.acknowledged([one.id for one in taken])
        return taken

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [content for topic, content, _ in self.came if topic == "sensors/gw/ledger"]


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    async with Outbox(None, ["cloud", "near"], max_count=10_000) as opened:
        yield opened


def lose(outbox: Outbox, uplink: str, count: int) -> None:
    """Have a few readings of the boiler taken in, and refused by `uplink` for ever."""
    feed = outbox.follow(uplink)
    for _ in range(count):
        outbox.put("boiler", {"n": 1})
    feed.rejected([one.id for one in feed.take(1000) if one.stream == "boiler"], "rejected")


async def test_a_loss_is_told_to_whom_it_concerns(outbox: Outbox) -> None:
    """The uplink that has the loss says of which topic; another one only that there was a loss elsewhere."""
    async with Announcer(outbox, EVERY) as announcer:
        lose(outbox, "cloud", 3)
        cloud, near = Receiver(outbox, "cloud"), Receiver(outbox, "near")
        (told,) = await cloud.until(1)
        (elsewhere,) = await near.until(1)
    expected = {"uplink": "cloud", "stream": "boiler", "stream_epoch": 1, "first_seq": 1, "last_seq": 3, "count": 3}
    assert expected.items() <= told.items()
    assert (told["reason"], told["topic"], told["seq"], told["epoch"]) == ("rejected", "site/boiler/data", 1, 1)
    assert abs(told["first_time"] - told["ts"]) < 60_000
    assert "topic" not in elsewhere
    assert announcer.announced == 1


async def test_a_loss_that_goes_on_is_told_from_its_beginning(outbox: Outbox) -> None:
    """However many losses there are meanwhile, the next entry comes later, and says all that the one before said."""
    async with Announcer(outbox, EVERY) as announcer:
        cloud = Receiver(outbox, "cloud")
        lose(outbox, "cloud", 2)
        await cloud.until(1)
        for _ in range(5):
            lose(outbox, "cloud", 1)
        _, second = await cloud.until(2)
    assert (second["first_seq"], second["last_seq"], second["count"]) == (1, 7, 7)
    assert announcer.announced == 2


async def test_the_loss_of_an_entry_is_not_told(outbox: Outbox) -> None:
    """Entries that are lost themselves cause no more of them, until there is a new link, which hears all once."""
    async with Announcer(outbox, EVERY) as announcer:
        feed = outbox.follow("cloud")
        lose(outbox, "cloud", 2)
        await Receiver(outbox, "near").until(1)  # so it was put in
        feed.rejected([one.id for one in feed.take(10)], "full")
        announcer.flush()
        assert announcer.announced == 1
        cloud = Receiver(outbox, "cloud")
        Again(announcer, "cloud").connected("mqtt://broker", "5", False)
        Again(announcer, "cloud").connected("mqtt://broker", "5", False)
        (told,) = await cloud.until(1)
        assert (told["first_seq"], told["last_seq"], told["count"]) == (1, 2, 2)
        lose(outbox, "cloud", 1)
        _, told = await cloud.until(2)
    assert (told["first_seq"], told["last_seq"], told["count"]) == (1, 3, 3)
    assert announcer.announced == 3


async def test_what_is_not_told_yet_is_told_at_the_end(outbox: Outbox) -> None:
    """Whoever leaves the announcer has announced everything."""
    async with Announcer(outbox, 60.0):
        cloud = Receiver(outbox, "cloud")
        lose(outbox, "cloud", 1)
        await cloud.until(1)
        lose(outbox, "cloud", 1)
    assert cloud.take()
    assert [entry["count"] for entry in cloud.entries] == [1, 2]


async def test_a_restart_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    """After an orderly end nothing is told twice, and a loss that goes on is told from its beginning."""
    path = tmp_path / "outbox.db"
    async with Outbox(path, ["cloud"]) as first:
        async with Announcer(first, EVERY):
            lose(first, "cloud", 2)
        for _ in range(2):
            first.put("boiler", {"n": 1})
    async with Outbox(path, ["cloud"]) as second, Announcer(second, EVERY) as announcer:
        feed = second.follow("cloud")
        entry, *readings = await take_all(feed, 3)
        assert entry.stream == LEDGER
        cloud = Receiver(second, "cloud")
        feed.acknowledged([entry.id])
        feed.rejected([one.id for one in readings], "rejected")
        (told,) = await cloud.until(1)
    assert (told["stream_epoch"], told["first_seq"], told["last_seq"], told["count"]) == (1, 1, 4, 4)
    assert announcer.announced == 1


async def test_after_a_crash_what_may_not_have_been_told_is_told(tmp_path: Path) -> None:
    """A loss that is on the card, and its announcement not, is told by the run after."""
    path, copy = tmp_path / "outbox.db", tmp_path / "copy.db"
    async with Outbox(path, ["cloud"]) as first:
        lose(first, "cloud", 2)
        await first.flush()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    async with Outbox(copy, ["cloud"]) as second, Announcer(second, EVERY):
        cloud = Receiver(second, "cloud")
        entries = await cloud.until(2)
    assert {(entry["reason"], entry["first_seq"]) for entry in entries} == {("rejected", 1), ("crash-window", 3)}


async def test_entries_are_sent_at_qos_1_at_least(outbox: Outbox) -> None:
    """An uplink at QoS 0 sends its readings so, and the ledger's entries at 1; order is kept."""
    async with Announcer(outbox, EVERY):
        outbox.put("meter", {"n": 1})
        lose(outbox, "cloud", 1)
        receiver = Receiver(outbox, "near", qos=0)
        await receiver.until(1)
        outbox.put("meter", {"n": 2})
        receiver.take()
    assert [(topic, qos) for topic, _, qos in receiver.came] == [
        ("site/meter/data", 0),
        ("site/boiler/data", 0),
        ("sensors/gw/ledger", 1),
        ("site/meter/data", 0),
    ]


async def test_the_receiver_has_its_proof(outbox: Outbox) -> None:
    """What one uplink has lost is explained where it is missing, also what could not be named."""
    async with Announcer(outbox, EVERY):
        cloud = Receiver(outbox, "cloud")
        outbox.put("boiler", {"n": 0})
        cloud.take()
        lose(outbox, "cloud", 3)
        outbox._log.ledger.enter(Loss("cloud", "?", 1, 0, 0, 0.0, 0.0, 1, "disk-error"))
        outbox.put("boiler", {"n": 0})
        feed = cloud.feed
        (dropped,) = [one for one in feed.take(10) if one.stream == "boiler"]
        feed.acknowledged([dropped.id])  # and never published: it stands for what a damaged block held
        outbox.put("boiler", {"n": 0})
        await cloud.until(2)
    proof = Proof(whole=True)
    for topic, content, _ in cloud.came:
        proof.take(topic, orjson.dumps(content))
    (row,) = proof.report().rows
    assert (row.received, row.explained, row.unexplained) == (2, {"rejected": 3, "disk-error": 1}, ())


@pytest.mark.parametrize("seed", range(6))
async def test_a_long_outage_is_explained_in_the_end(tmp_path: Path, seed: int) -> None:
    """Over runs in which nothing can be sent and far more is taken in than there is room for, entries are lost as well.

    What arrives in the end, and whatever arrived before, explains everything that is missing.
    """
    rng = random.Random(seed)
    path = tmp_path / "outbox.db"
    proof = Proof(whole=True)

    def pass_on(receiver: Receiver) -> None:
        for topic, content, _ in receiver.came:
            proof.take(topic, orjson.dumps(content))
        receiver.came.clear()

    for run in range(5):
        async with Outbox(path, ["cloud"], max_size=45_000, commit_interval=0.05) as outbox:
            async with Announcer(outbox, 0.01) as announcer:
                receiver = Receiver(outbox, "cloud")
                link = Again(announcer, "cloud")
                for _ in range(rng.randrange(2, 12)):
                    for _ in range(rng.randrange(400)):
                        outbox.put(rng.choice(["boiler", "meter"]), {"n": rng.randbytes(8).hex()})
                    if run < 4 and rng.random() < 0.3:
                        some = receiver.feed.take(rng.randrange(1, 30))
                        receiver.feed.rejected([one.id for one in some], "rejected")
                    if rng.random() < 0.2:
                        link.connected("mqtt://broker", "5", False)
                        receiver.take()
                    await outbox.flush()
                    await outbox.flush()
                if run == 4:
                    async with asyncio.timeout(20):
                        link.connected("mqtt://broker", "5", False)
                        announcer.flush()
                        while receiver.feed.account.waiting:
                            receiver.more.clear()
                            if not receiver.take():
                                await receiver.more.wait()
                            announcer.flush()
            pass_on(receiver)
    report = proof.report()
    assert report.unknown == 0, report
    assert sum(row.missing for row in report.rows) > 100
