"""Letting go of an uplink beside a running service, and at its start."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.outbox import Outbox
from tests.cli.outbox_of import command
from tests.system.harness import Gateway, Mosquitto, Subscriber, configuration, until

pytestmark = pytest.mark.system
COUNT = 100


async def left_behind(path: Path) -> None:
    """Make the outbox of a service that had an uplink more, which has got nothing."""
    async with Outbox(path, ["cloud", "far"]) as outbox:
        for n in range(COUNT):
            outbox.put("boiler", {"n": n})


@pytest.mark.parametrize("how", ["command", "option"])
def test_an_uplink_is_forgotten(folder: Path, broker: Mosquitto, how: str) -> None:
    """By the service while it runs, or as it starts; its receivers are told, and the next start knows nothing of it."""
    asyncio.run(left_behind(folder / "outbox.db"))
    config = configuration(folder, brokers=[broker.url])
    with Subscriber(broker) as subscriber, Gateway(config) as gateway:
        gateway.start(*(["--forget", "far"] if how == "option" else []))
        if how == "command":
            gateway.wait_log("type: sensor-gateway outbox forget far", 10)
            done = command("forget", "cloud", "--yes", "--path", folder / "outbox.db")
            assert (done.returncode, "is in the config" in done.stderr) == (69, True)
            done = command("forget", "far", "--yes", "-c", config)
            assert (done.returncode, done.stdout[: len("100 were")]) == (0, "100 were")
        gateway.wait_delivered(10)
        assert ("type: sensor-gateway outbox forget far" in gateway.log) == (how == "command")
        until(lambda: any(one.topic == "sensors/gw/ledger" for one in subscriber.arrivals), 10, "the ledger")
        (entry,) = [json.loads(one.payload) for one in subscriber.arrivals if one.topic == "sensors/gw/ledger"]
        assert (entry["uplink"], entry["count"], entry["reason"]) == ("far", COUNT, "shed")
        assert subscriber.count("boiler") == COUNT
        assert gateway.stop().status == 0
        before = len(gateway.log_lines)
        gateway.start(*(["--forget", "far"] if how == "option" else []))
        assert gateway.stop().status == 0
        assert not any("no longer in the config" in line for line in gateway.log_lines[before:])
    status = json.loads(command("status", "--json", "-c", config).stdout)
    assert list(status["uplinks"]) == ["cloud"]
    assert command("audit", "-c", config).returncode == 0
