"""Our client, mosquitto and paho-mqtt: every way in, every protocol, every QoS."""

from __future__ import annotations

import asyncio

import pytest

from gateway import Message, Outcome
from tests.interop.brokers import EveryListener
from tests.interop.exchange import client, exchange
from tests.interop.peer import PATIENCE, Peer

pytestmark = pytest.mark.system
BACKLOG = 5000  # messages


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
@pytest.mark.parametrize("way", ["tcp", "tls", "mutual", "ws", "wss"])
async def test_every_message_arrives_as_it_was_sent(mosquitto: EveryListener, way: str, protocol: str) -> None:
    """Between our client and paho-mqtt every byte of every message arrives, in order and once, both ways."""
    route = mosquitto.ways[way]
    async with client(route, protocol) as ours, Peer(route, protocol) as peer:
        assert (await ours.connected(PATIENCE)).protocol == protocol
        await exchange(ours, peer)


@pytest.mark.parametrize(("ours", "theirs"), [("5", "3.1"), ("3.1", "5")])
async def test_the_two_may_speak_different_protocols(mosquitto: EveryListener, ours: str, theirs: str) -> None:
    """What is published with one version of MQTT arrives unchanged with another."""
    async with client(mosquitto.ways["tcp"], ours) as speaker, Peer(mosquitto.ways["ws"], theirs) as peer:
        await exchange(speaker, peer)


async def test_auto_means_mqtt_5(mosquitto: EveryListener) -> None:
    """Without being told a protocol, the newest that the broker speaks is used."""
    async with client(mosquitto.ways["wss"], "auto") as ours:
        assert (await ours.connected(PATIENCE)).protocol == "5"


async def test_the_client_outlives_a_restart(mosquitto: EveryListener) -> None:
    """After the broker was away, on each of its ways the client is back, subscribed, and delivers what waited."""
    async with (
        client(mosquitto.ways["tcp"], "auto", reconnect_min=0.05, reconnect_max=0.1) as speaker,
        client(
            mosquitto.ways["wss"],
            "auto",
            client_id="listener",
            clean_start=False,
            reconnect_min=0.05,
            reconnect_max=0.1,
        ) as listener,
        listener.messages("away", qos=2) as messages,
    ):
        mosquitto.stop()
        waiting = await speaker.publish("away", b"written to nobody", qos=2)
        mosquitto.start()
        async with asyncio.timeout(PATIENCE):
            assert await waiting == Outcome.ACKNOWLEDGED
            assert (await anext(messages)).payload == b"written to nobody"


@pytest.mark.parametrize("receive_maximum", [10, 1000])
async def test_a_backlog_arrives_once_though_mosquitto_sends_too_much_of_it(
    mosquitto: EveryListener, receive_maximum: int
) -> None:
    """mosquitto 2.0.11 exceeds the receive maximum as it empties a queue; all of it arrives, in order and once."""
    way, topic = mosquitto.ways["tcp"], f"backlog/{receive_maximum}"
    mine = {"client_id": f"reader-{receive_maximum}", "clean_start": False, "receive_maximum": receive_maximum}
    async with client(way, "5", **mine) as ours:
        await ours.subscribe(topic, qos=1)
    async with client(way, "5") as writer:
        for n in range(BACKLOG):
            await writer.publish(topic, b"%d" % n)
        assert await writer.flush(PATIENCE)
    heard, done = [], asyncio.Event()

    def take(message: Message) -> None:
        heard.append(int(message.payload))
        if len(heard) == BACKLOG:
            done.set()

    async with client(way, "5", on_message=take, **mine), asyncio.timeout(PATIENCE):
        await done.wait()
    assert heard == list(range(BACKLOG))
