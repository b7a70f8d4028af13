"""Letting go of an uplink that is no longer in the config: its claim is gone, and the ledger says what it cost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.announce import Announcer
from gateway.outbox import Outbox
from gateway.outbox.audit import audit
from gateway.outbox.commit import State
from gateway.outbox.inspection import Inspection
from gateway.outbox.log import Log
from gateway.reading import LEDGER
from tests.outbox.following import crashed, ids_of, message, take_all

COUNT = 2500
"""More than is looked at, at once."""


async def left_behind(path: Path) -> list[int]:
    """Make an outbox of which `near` has all but the newest ten, and `far` only every tenth of the oldest hundred."""
    async with Outbox(path, ["near", "far"], commit_interval=3600.0) as outbox:
        ids: list[int] = []
        for _ in range(5):
            ids += [outbox._log.next_id + n for n in range(COUNT // 5)]
            for n in range(COUNT // 5):
                outbox.put("boiler", {"n": n})
            await outbox.flush()
        near, far = outbox.follow("near"), outbox.follow("far")
        near.acknowledged(ids_of(await take_all(near, COUNT))[:-10])
        far.acknowledged(ids_of(await take_all(far, 100))[::10])
    return ids


def standing(path: Path) -> dict[str, int]:
    """Return the uplinks that the card knows, and what waits for each; the account must be right."""
    with Inspection(path) as card:
        assert audit(card).problems == []
        return {name: card.standing(name).waiting for name in card.uplinks()}


async def test_what_waits_is_in_the_ledger_and_the_claim_is_gone(tmp_path: Path) -> None:
    """Each reading that it never got is in the ledger, blocks that only it held go, and a restart knows it no more."""
    path = tmp_path / "o.db"
    ids = await left_behind(path)
    async with Outbox(path, ["near"]) as outbox:
        assert outbox._log.blocks == 5
        assert outbox.strangers == {"far": COUNT - 10}
        assert await outbox.forget("far") == COUNT - 10
        assert outbox.strangers == {}
        assert outbox.follow("near").account.waiting == 10
        await outbox.flush()
        assert outbox._log.blocks == 1
        before = await outbox.ledger()
    assert {(loss.uplink, loss.stream, loss.reason) for loss in before} == {("far", "boiler", "shed")}
    assert sum(loss.count for loss in before) == COUNT - 10
    delivered = set(range(1, 101, 10))
    lost = {seq for loss in before for seq in range(loss.first_seq, loss.last_seq + 1)}
    assert lost == set(range(1, COUNT + 1)) - delivered
    assert standing(path) == {"near": 10}
    async with Outbox(path, ["near"]) as outbox:
        assert outbox.strangers == {}
        assert await outbox.ledger() == before
        assert ids_of(await take_all(outbox.follow("near"), 10)) == ids[-10:]


async def test_what_is_set_aside_or_half_delivered_goes_with_it(tmp_path: Path) -> None:
    """Its quarantine is emptied, which the ledger has already; what a broker had at QoS 2 counts as lost."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["near", "far"]) as outbox:
        for n in range(5):
            outbox.accept(message(n))
        for name in ("near", "far"):
            feed = outbox.follow(name)
            one, two, *_ = ids_of(await take_all(feed, 5))
            feed.quarantine([one], "poison")
            feed.release([two], lambda: None)
    async with Outbox(path, ["near"]) as outbox:
        assert await outbox.forget("far") == 4
        assert [entry.uplink for entry in await outbox.quarantined()] == ["near"]
        assert [(loss.count, loss.reason) for loss in await outbox.ledger() if loss.uplink == "far"] == [
            (1, "poison"),
            (4, "shed"),
        ]
        await outbox.flush()
        assert outbox.follow("near").released != []
    assert standing(path) == {"near": 4}


async def test_it_is_gone_with_the_next_transaction_or_not_at_all(tmp_path: Path) -> None:
    """A power cut before that changes nothing: neither is the claim gone, nor is anything in the ledger."""
    path = tmp_path / "o.db"
    await left_behind(path)
    async with Outbox(path, ["near"], commit_interval=3600.0) as outbox:
        await outbox.flush()
        await outbox.forget("far")
        before = crashed(path, "before.db")
        await outbox.flush()
        after = crashed(path, "after.db")
    for copy, waiting, lost in ((before, {"far": COUNT - 10, "near": 10}, 0), (after, {"near": 10}, COUNT - 10)):
        assert standing(copy) == waiting
        with Inspection(copy) as card:
            assert sum(loss.count for loss in card.ledger()) == lost


def test_a_transaction_that_failed_is_repeated_with_it() -> None:
    """The card is told until it knows."""
    log = Log(State(1), ["near", "far"])
    log.remove("far")
    for _ in range(2):
        commit = log.begin()
        assert (commit.forgotten, list(commit.claims), commit.void) == (["far"], ["near"], False)
        log.failed(commit)
    log.finish(log.begin(), 0)
    assert (log.begin().forgotten, log.restless) == ([], False)


async def test_the_last_uplink_can_be_forgotten(tmp_path: Path) -> None:
    """Nobody is left, so nothing waits, and what comes waits for nobody."""
    path = tmp_path / "o.db"
    async with Outbox(path, ["far"]) as outbox:
        outbox.put("boiler", {"n": 1})
    async with Outbox(path, []) as outbox:
        assert await outbox.forget("far") == 1
        outbox.put("boiler", {"n": 2})
        await outbox.flush()
        assert outbox._log.blocks == 0
    assert standing(path) == {}


async def test_only_what_nobody_uses_is_forgotten(tmp_path: Path) -> None:
    """An uplink of the config is not given up, nor one that nobody knows; and nothing has changed."""
    path = tmp_path / "o.db"
    await left_behind(path)
    async with Outbox(path, ["near"]) as outbox:
        with pytest.raises(ValueError, match="is in the config"):
            await outbox.forget("near")
        with pytest.raises(ValueError, match='no uplink "fat"'):
            await outbox.forget("fat")
        assert await outbox.ledger() == []
    assert standing(path) == {"far": COUNT - 10, "near": 10}


async def test_two_who_ask_at_once_are_both_answered(tmp_path: Path) -> None:
    """Between them, each reading is given up once, and what is put in meanwhile waits for the others alone."""
    path = tmp_path / "o.db"
    await left_behind(path)
    async with Outbox(path, ["near"]) as outbox:
        asked = [asyncio.ensure_future(outbox.forget("far")) for _ in range(2)]
        while not all(one.done() for one in asked):
            outbox.put("boiler", {"n": 0})
            await asyncio.sleep(0)
        given_up = sum(one.result() for one in asked)
        lost = sum(loss.count for loss in await outbox.ledger())
        near = outbox.follow("near").account
        assert given_up == lost
        assert COUNT - 10 <= lost <= COUNT - 10 + outbox.taken_in
        assert near.waiting == 10 + outbox.taken_in
    assert list(standing(path)) == ["near"]


async def test_the_receiver_of_the_others_is_told(tmp_path: Path) -> None:
    """The ledger's topic says what the forgotten uplink has lost, and no entry waits for it."""
    path = tmp_path / "o.db"
    await left_behind(path)
    async with Outbox(path, ["near"]) as outbox:
        async with Announcer(outbox):
            await outbox.forget("far")
        entries = [one.values for one in await take_all(outbox.follow("near"), 10 + 10) if one.stream == LEDGER]
        assert {(one["uplink"], one["reason"]) for one in entries} == {("far", "shed")}  # type: ignore[call-overload, index]
    assert list(standing(path)) == ["near"]
