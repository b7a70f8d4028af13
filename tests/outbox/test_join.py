"""Uplinks and streams that come and go while the outbox is open, as if it had been opened with them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.outbox import Outbox
from gateway.outbox.audit import audit
from gateway.outbox.inspection import Inspection
from tests.outbox.following import crashed, ids_of, take_all, until


def standing(path: Path) -> dict[str, int]:
    """Return the uplinks that the card knows, and what waits for each; the account must be right."""
    with Inspection(path) as card:
        assert audit(card).problems == []
        return {name: card.standing(name).waiting for name in card.uplinks()}


async def test_an_uplink_that_joins_gets_what_is_put_in_from_then_on(tmp_path: Path) -> None:
    """Exactly that, and a restart goes on with it, also after it was only just noted."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near"], commit_interval=3600.0) as outbox:
        outbox.put("boiler", {"n": 0})
        await outbox.flush()
        outbox.put("boiler", {"n": 1})
        far = outbox.join("far")
        assert (outbox.join("far"), outbox.follow("far")) == (far, far)
        for n in range(2, 5):
            outbox.put("boiler", {"n": n})
        assert (outbox.follow("near").account.waiting, far.account.waiting) == (5, 3)
        assert [reading.values for reading in await take_all(far, 3)] == [{"n": n} for n in range(2, 5)]
        far.left(range(outbox._log.next_id - 3, outbox._log.next_id))
    assert standing(path) == {"near": 5, "far": 3}
    async with Outbox(path, ["near", "far"]) as outbox:
        assert [reading.values for reading in await take_all(outbox.follow("far"), 3)] == [
            {"n": n} for n in range(2, 5)
        ]


async def test_what_joins_during_a_transaction_has_no_part_in_it(tmp_path: Path) -> None:
    """The transaction was put together before; the next one has the uplink as well."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near"], commit_interval=3600.0) as outbox:
        outbox.put("boiler", {"n": 0})
        recorded = asyncio.Event()
        outbox.follow("near").remember({}, recorded.set)
        await until(lambda: not outbox._log.noted)  # it is in a transaction now
        far = outbox.join("far")
        outbox.put("boiler", {"n": 1})
        async with asyncio.timeout(10):
            await recorded.wait()
        await outbox.flush()
        assert standing(path) == {"near": 2, "far": 1}
        far.acknowledged(ids_of(await take_all(far, 1)))
        assert outbox._log.floor == min(follower.floor for follower in outbox._log.followers.values())
    assert standing(path) == {"near": 2, "far": 0}


async def test_an_uplink_that_has_left_keeps_what_waits_and_can_come_back(tmp_path: Path) -> None:
    """As over a restart: it goes on where it was, with all that was put in meanwhile."""
    async with Outbox(tmp_path / "o.db", ["near", "far"]) as outbox:
        outbox.put("boiler", {"n": 0})
        assert outbox.leave("far") == 1
        outbox.put("boiler", {"n": 1})
        assert outbox.strangers == {"far": 2}
        far = outbox.join("far")
        assert outbox.strangers == {}
        assert [reading.values for reading in await take_all(far, 2)] == [{"n": 0}, {"n": 1}]
        outbox.leave("far")
        assert await outbox.forget("far") == 0, "a link had taken them: they may have arrived"


async def test_one_that_was_forgotten_begins_anew(tmp_path: Path) -> None:
    """Also before the card has heard that it was forgotten: what it gets then is not forgotten with it."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near", "far"], commit_interval=3600.0) as outbox:
        outbox.put("boiler", {"n": 0})
        await outbox.flush()
        outbox.leave("far")
        assert await outbox.forget("far") == 1
        far = outbox.join("far")
        outbox.put("boiler", {"n": 1})
        assert far.account.waiting == 1
        await outbox.flush()
        assert standing(path) == {"near": 2, "far": 1}


async def test_what_cannot_be_had_at_once_is_refused(tmp_path: Path) -> None:
    """Another choice of devices would need a new count of what waits, and what is being forgotten is on its way out."""
    async with Outbox(tmp_path / "o.db", ["near", "far"]) as outbox:
        outbox.put("boiler", {"n": 0})
        outbox.leave("far")
        with pytest.raises(ValueError, match="cannot take"):
            outbox.join("far", ["boiler"])
        forgetting = asyncio.create_task(outbox.forget("far"))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="cannot take"):
            outbox.join("far")
        await forgetting
        assert outbox.join("far", ["cellar"]).account.waiting == 0
        outbox.put("boiler", {"n": 1})
        outbox.put("cellar", {"n": 2})
        assert outbox.follow("far").account.waiting == 1


async def test_a_stream_that_is_expected_is_in_the_ledger_after_a_crash(tmp_path: Path) -> None:
    """Before it has put anything on the card: what it may have lost is said, as for one that was known at the start."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near"], commit_interval=3600.0, streams=["old"]) as outbox:
        outbox.expect(["new"], [])
        await outbox.flush()
        outbox.put("new", {"n": 1})
        again = crashed(path, "again.db")
    async with Outbox(again, ["near"]) as outbox:
        assert {(loss.stream, loss.first_seq, loss.reason) for loss in outbox.found} == {
            ("old", 1, "crash-window"),
            ("new", 1, "crash-window"),
        }


async def test_a_stream_can_become_urgent(tmp_path: Path) -> None:
    """From then on its readings go before others; those before go in their turn."""
    async with Outbox(tmp_path / "o.db", ["near"]) as outbox:
        outbox.put("alarm", {"n": 0})
        outbox.put("boiler", {"n": 1})
        outbox.expect(["alarm", "boiler"], ["alarm"])
        outbox.put("alarm", {"n": 2})
        outbox.expect(["alarm", "boiler"], [])
        outbox.put("alarm", {"n": 3})
        assert [reading.values for reading in await take_all(outbox.follow("near"), 4)] == [
            {"n": n} for n in (2, 0, 1, 3)
        ]
