"""Our client, RabbitMQ 3.10 and paho-mqtt: MQTT 3.1 and 3.1.1, no QoS 2, over TCP and over WebSocket."""

from __future__ import annotations

import re

import pytest
from structlog.testing import capture_logs

from gateway import NotConnected, Outcome
from tests.interop.brokers import RabbitMq
from tests.interop.exchange import client, exchange
from tests.interop.peer import PATIENCE, Peer

pytestmark = pytest.mark.system
WAYS = pytest.mark.parametrize("way", ["tcp", "ws"])


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1"])
@WAYS
async def test_every_message_arrives_as_it_was_sent(rabbitmq: RabbitMq, way: str, protocol: str) -> None:
    """Between our client and paho-mqtt every byte of every message arrives, in order and once, at QoS 1 at the most."""
    route = rabbitmq.ways[way]
    async with client(route, protocol) as ours, Peer(route, protocol) as peer:
        await exchange(ours, peer, most=1)


async def test_qos_2_is_acknowledged_as_qos_1_and_said_once(rabbitmq: RabbitMq) -> None:
    """A PUBACK for a QoS 2 message counts, and that it is less than what was asked for is said, once."""
    with capture_logs() as logs:
        async with client(rabbitmq.ways["tcp"], "3.1.1") as ours:
            deliveries = [await ours.publish("exactly/once", b"%d" % n, qos=2) for n in range(5)]
            assert [await delivery for delivery in deliveries] == [Outcome.ACKNOWLEDGED] * 5
    assert len([entry for entry in logs if "has no QoS 2" in entry["event"]]) == 1


@WAYS
async def test_auto_falls_back_to_3_1_1(rabbitmq: RabbitMq, way: str) -> None:
    """RabbitMQ closes without CONNACK when it hears MQTT 5, and gets 3.1.1 next."""
    async with client(rabbitmq.ways[way], "auto") as ours:
        assert (await ours.connected(PATIENCE)).protocol == "3.1.1"


async def test_keep_alive_is_below_45_s_over_websocket(rabbitmq: RabbitMq) -> None:
    """RabbitMQ closes a WebSocket over which nothing came for 60 s; so CONNECT never says more than 45 s there."""
    with capture_logs() as logs:
        async with client(rabbitmq.ways["ws"], "3.1.1", keep_alive=600.0, trace=True) as ours:
            await ours.connected(PATIENCE)
    (said,) = re.findall(r"out CONNECT .*\bkeep_alive=(\d+)", "\n".join(entry["event"] for entry in logs))
    assert 0 < int(said) < 45


@pytest.mark.parametrize(("way", "words"), [("tcp", "bad user name or password"), ("ws", "unauthenticated")])
async def test_a_wrong_password_is_told_in_words(rabbitmq: RabbitMq, way: str, words: str) -> None:
    """Its refusal, which over WebSocket is no CONNACK but the reason of closing, is told, and the password is not."""
    async with client(rabbitmq.ways[way], "3.1.1", password="hunter2") as ours:
        with pytest.raises(NotConnected, match=words) as caught:
            await ours.connected(1.0)
        assert "hunter2" not in str(caught.value)
