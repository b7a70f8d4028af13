"""Our client, amqtt and paho-mqtt: MQTT 3.1.1 only."""

from __future__ import annotations

import pytest

from tests.interop.brokers import Amqtt
from tests.interop.exchange import client, exchange
from tests.interop.peer import PATIENCE, Peer

pytestmark = pytest.mark.system


async def test_every_message_arrives_as_it_was_sent(amqtt: Amqtt) -> None:
    """Between our client and paho-mqtt every byte of every message arrives, in order and once, both ways."""
    route = amqtt.ways["tcp"]
    async with client(route, "3.1.1") as ours, Peer(route, "3.1.1") as peer:
        await exchange(ours, peer)


async def test_auto_falls_back_to_3_1_1(amqtt: Amqtt) -> None:
    """amqtt never answers a CONNECT of MQTT 5, and gets 3.1.1 next."""
    async with client(amqtt.ways["tcp"], "auto", connect_timeout=0.5, reconnect_min=0.05, reconnect_max=0.1) as ours:
        assert (await ours.connected(PATIENCE)).protocol == "3.1.1"
