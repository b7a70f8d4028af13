"""What the tests here rest on: brokers that come, stay and go as they are told."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.interop.brokers import EveryListener, RabbitMq, listens
from tests.interop.peer import Peer

pytestmark = pytest.mark.system


def test_a_missing_rabbitmq_fails_loudly(tmp_path: Path) -> None:
    """Where the package is missing, the test fails and says what to type."""
    with pytest.raises(pytest.fail.Exception, match="apt-get install --no-install-recommends rabbitmq-server"):
        RabbitMq(tmp_path / "none", program=tmp_path / "not-there").__enter__()


async def test_mosquitto_comes_back_as_it_was(mosquitto: EveryListener) -> None:
    """After an orderly stop, every listener is back on its port, and what waited for a session is delivered."""
    way, name = mosquitto.ways["tcp"], f"sleeper-{uuid.uuid4().hex[:8]}"
    async with Peer(way, "3.1.1", name, clean=False) as sleeper:
        assert await sleeper.subscribe("kept", 1) == 1
    async with Peer(way, "3.1.1") as speaker:
        await speaker.publish("kept", b"over the night", 1)
    mosquitto.stop()
    assert not any(listens(way.port) for way in mosquitto.ways.values())
    mosquitto.start()
    async with Peer(way, "3.1.1", name, clean=False) as sleeper:
        assert (await sleeper.next()).payload == b"over the night"
