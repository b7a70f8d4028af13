"""How entries of the outbox become messages."""

from __future__ import annotations

import orjson
import pytest

from gateway.clock import Clock
from gateway.formats import FORMATS
from gateway.outbox import Outbox
from gateway.reading import Publication
from gateway.uplink import Publications, Readings


async def test_an_expiry_interval_runs_while_the_message_waits() -> None:
    """A receiver gets a message with what is left of its life, and never one that has none; the ledger says so."""
    now = 1000.0
    async with Outbox(None, ["client"], clock=Clock(lambda: now, lambda: now + 1.7e9, "boot")) as outbox:
        feed = outbox.follow("client")
        for interval in (5, 60, 5):
            outbox.accept(Publication("a", b"x", 1, False, {"message_expiry_interval": interval}))
        outbox.accept(Publication("a", b"y"))
        now += 10.0
        batches = Publications().batches(feed.take(9), feed)
        assert [(batch.properties, len(batch.messages)) for batch in batches] == [
            ({"message_expiry_interval": 50}, 1),
            (None, 1),
        ]
        assert [(loss.count, loss.reason) for loss in await outbox.ledger()] == [(1, "too-old"), (1, "too-old")]
        assert (feed.account.waiting, feed.account.lost) == (2, 2)


async def test_messages_that_have_much_in_common_go_together_and_in_order() -> None:
    """Nothing overtakes: a batch ends where QoS, retain or properties change."""
    kinds = [(1, False, None), (1, False, None), (0, False, None), (1, False, None), (1, True, None)]
    async with Outbox(None, ["client"]) as outbox:
        feed = outbox.follow("client")
        for number, (qos, retain, properties) in enumerate(kinds):
            outbox.accept(Publication("a", b"%d" % number, qos, retain, properties))
        batches = Publications().batches(feed.take(9), feed)
        assert [(batch.qos, batch.retain, [payload for _, payload, _ in batch.messages]) for batch in batches] == [
            (1, False, [b"0", b"1"]),
            (0, False, [b"2"]),
            (1, False, [b"3"]),
            (1, True, [b"4"]),
        ]


@pytest.mark.parametrize(("old", "came"), [("alarm", [(1, True), (2, False)]), ("boiler", [(2, False), (1, True)])])
async def test_live_readings_and_a_backlog_in_one_take_are_told_apart(old: str, came: list[tuple[int, bool]]) -> None:
    """Each is marked by its own measure: urgent ones of a backlog, which come first, and others, which come last."""
    now = 1000.0
    async with Outbox(None, ["cloud"], high=["alarm"], clock=Clock(lambda: now, lambda: now + 1.7e9, "boot")) as outbox:
        feed = outbox.follow("cloud")
        outbox.put(old, {"n": 1})
        feed.begin_live()
        outbox.put("boiler", {"n": 2})
        now += 2.0
        (batch,) = Readings(str, FORMATS["json"], 1).batches(feed.take(9, None, 9), feed)
        found = [orjson.loads(payload) for _, payload, _ in batch.messages]
        assert [(one["n"], one.get("historical", False)) for one in found] == came
