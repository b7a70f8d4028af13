"""After an outage: new readings at once, and a backlog beside them, over a real broker."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.packing import unpack
from gateway.outbox import Outbox
from tests.system.harness import Gateway, Mosquitto, SerialDevice, Subscriber, configuration

pytestmark = pytest.mark.system

TOPIC = "sensors/gw/boiler"
LIVE = 100


async def fill(folder: Path, count: int) -> None:
    """Leave so many readings of the device in an outbox, as an earlier run that had no broker."""
    async with Outbox(folder / "outbox.db", ["cloud"]) as outbox:
        for number in range(1, count + 1):
            outbox.put("boiler", {"n": number, "temperature": 20 + number % 100 / 10, "humidity": 40 + number % 37})
        await outbox.flush()


def drain(folder: Path, broker: Mosquitto, backlog: int, **uplink: object) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Let the gateway catch up with a backlog while a device goes on; return the readings that came, and payloads."""
    with (
        Subscriber(broker) as subscriber,
        SerialDevice("boiler", folder, rate=1000) as boiler,
        Gateway(configuration(folder, brokers=[broker.url], devices=[boiler], uplink=uplink)) as gateway,
    ):
        broker.stop()
        gateway.start()
        boiler.wait_opened(10)
        broker.start()
        gateway.wait_log("linked to", 10)
        boiler.resume()
        boiler.wait_written(LIVE, 10)
        boiler.pause()
        boiler.wait_read(10)
        gateway.wait_delivered(60)
        subscriber.quiet(0.5, 60)
        assert gateway.stop().status == 0
        account = gateway.figures["uplinks"]["cloud"]
        assert (account["waiting"], account["lost"]) == (0, 0)
        assert gateway.figures["taken_in"] == boiler.written
        payloads = [arrival.payload for arrival in subscriber.arrivals if arrival.topic == TOPIC]
    found = [one for payload in payloads for one in unpack(payload)]
    ours = [one["n"] for one in found if one["epoch"] == 2]
    assert ours == list(range(1, boiler.written + 1)), "live readings come in order, each once"
    assert sorted(one["n"] for one in found if one["epoch"] == 1) == list(range(1, backlog + 1)), (
        "and so does a backlog"
    )
    return found, payloads


def overtaken(found: list[dict[str, Any]]) -> int:
    """How many readings of the backlog came after the last of the live ones."""
    last = max(place for place, one in enumerate(found) if one["epoch"] == 2)
    return sum(one["epoch"] == 1 for one in found[last:])


async def test_live_readings_do_not_wait_for_a_backlog(folder: Path, broker: Mosquitto) -> None:
    """With 100,000 readings in the outbox, new ones arrive before most of them, and only those are history."""
    await fill(folder, 100_000)
    found, _ = drain(folder, broker, 100_000)
    assert overtaken(found) > 10_000
    assert all(one.get("historical", False) == (one["epoch"] == 1) for one in found)
    backlog = [one["seq"] for one in found if one["epoch"] == 1]
    assert backlog == sorted(backlog), "no link was lost, so nothing overtakes anything of its own kind"


async def test_strict_order_sends_the_backlog_first(folder: Path, broker: Mosquitto) -> None:
    """With strict order nothing overtakes anything."""
    await fill(folder, 20_000)
    found, _ = drain(folder, broker, 20_000, order="strict")
    assert all(one < other for one, other in pairwise((one["epoch"], one["seq"]) for one in found))


async def test_a_backlog_in_batches_and_compressed(folder: Path, broker: Mosquitto) -> None:
    """A metered link: arrays of up to 100 readings, compressed, live ones first, and all of it in far fewer bytes."""
    await fill(folder, 50_000)
    _, payloads = drain(folder, broker, 50_000, batch=100, compress="gzip")
    assert len(payloads) < 50_000 / 50
    assert sum(map(len, payloads)) < 50_000 * 25
