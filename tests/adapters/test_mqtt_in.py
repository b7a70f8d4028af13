"""Readings from a broker: what is taken, what is not, and what is acknowledged when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.network.mqtt import Mqtt
from gateway import Client
from gateway.devices import RunningDevice
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Puback, Publish
from tests.adapters.notebook import WAIT, Notebook, running
from tests.mqtt.mosquitto import Mosquitto
from tests.scripted_broker import ScriptedBroker


class Bench:
    """A device that hears a scripted broker."""

    def __init__(self, broker: ScriptedBroker, topics: Any, **keys: Any) -> None:
        self.broker = broker
        self.notes = Notebook()
        url = keys.pop("url", {"url": broker.url})
        self.device: RunningDevice = self.notes.device("d", Mqtt(broker=url, topics=topics, **keys))

    async def online(self) -> None:
        """Wait for the device."""
        await self.notes.until(lambda: self.device.state == "online")

    async def count(self, readings: int) -> list[dict[str, Any]]:
        """Wait for so many readings."""
        await self.notes.until(lambda: len(self.notes.readings) >= readings)
        return self.notes.of("d")


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_each_message_is_a_reading(protocol: str) -> None:
    """Objects are flattened, and named by what the wildcard stands for; what does not decode is counted."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["zigbee2mqtt/+"], url={"url": broker.url, "protocol": protocol})
        async with running(bench.device):
            await bench.online()
            for payload in (b'{"t": 21.5, "colour": {"x": 1}, "no": null, "list": [1]}', b"online", b"", b'{"t": 22}'):
                broker.publish(Publish("zigbee2mqtt/kitchen", payload, qos=1))
            found = await bench.count(2)
    assert found == [{"kitchen.t": 21.5, "kitchen.colour.x": 1}, {"kitchen.t": 22}]
    assert bench.device.skipped == {"not JSON": 2}


async def test_one_value_in_each_message() -> None:
    """A number, true or false, or a word; the template says its name."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, {"rooms/+/+": "{1}_{2}", "outside": ""}, format="value")
        async with running(bench.device):
            await bench.online()
            for topic, payload in (("rooms/a/temp", b"21.5"), ("rooms/b/door", b" open\n"), ("outside", b"true")):
                broker.publish(Publish(topic, payload, qos=1))
            found = await bench.count(3)
    assert found == [{"a_temp": 21.5}, {"b_door": "open"}, {"outside": True}]


async def test_the_time_of_the_device() -> None:
    """It is taken out of the message, as of a line; one that cannot be right is counted."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["a"], time="ts", time_format="ms")
        async with running(bench.device):
            await bench.online()
            for payload in (b'{"ts": 1763600000123, "t": 1}', b'{"ts": 5, "t": 2}', b'{"ts": 1763600000123}'):
                broker.publish(Publish("a", payload))
            await bench.count(2)
            async with asyncio.timeout(WAIT):
                while len(bench.device.skipped) < 2:
                    await asyncio.sleep(0)
    assert [(values, time) for _, values, time in bench.notes.readings] == [
        ({"t": 1}, 1763600000.123),
        ({"t": 2}, None),
    ]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("retained", ["skip", "take"])
async def test_what_the_broker_has_kept_is_old(protocol: str, retained: str) -> None:
    """It would get the time at which it comes, so nothing is made of it unless somebody asks for it."""
    async with ScriptedBroker() as broker:
        broker.deliver = True
        broker.retained["a"] = Publish("a", b'{"t": 1}', retain=True)
        bench = Bench(broker, ["a"], url={"url": broker.url, "protocol": protocol}, retained=retained)
        async with running(bench.device):
            await bench.online()
            broker.publish(Publish("a", b'{"t": 2}'))
            found = await bench.count(1 if retained == "skip" else 2)
        handling = [one.retain_handling for packet in broker.subscribes for one in packet.subscriptions]
    assert [values["t"] for values in found] == ([2] if retained == "skip" else [1, 2])
    assert protocol != "5" or handling == [2 if retained == "skip" else 0]


@pytest.mark.parametrize("kept", [False, True])
async def test_a_message_is_acknowledged_once_it_was_taken_in(kept: bool) -> None:
    """What the broker has an acknowledgement for, the gateway has."""
    taken = 0
    async with ScriptedBroker() as broker:
        broker.keep_sessions = kept
        keys = {"time": "ts", "keep_session": 60.0} if kept else {}
        bench = Bench(broker, ["a"], url={"url": broker.url, "client_id": "me"}, **keys)

        def put(*_: Any) -> None:
            nonlocal taken
            assert sum(isinstance(one, Puback) for one in broker.answers) <= taken
            taken += 1

        bench.device._put = put
        async with running(bench.device):
            await bench.online()
            for n in range(5):
                broker.publish(Publish("a", b'{"t": %d}' % n, qos=1))
            await broker.until(lambda: len(broker.answers) == 5)
        assert taken == 5
        assert broker.connects[0].clean is not kept


async def test_what_comes_first_on_a_session_that_was_kept_is_taken() -> None:
    """The broker sends what it has kept before anybody could subscribe again."""
    async with ScriptedBroker() as broker:
        broker.keep_sessions = True
        keys: dict[str, Any] = {"url": {"url": broker.url, "client_id": "me"}, "time": "ts", "keep_session": 60.0}
        bench = Bench(broker, ["a"], **keys)
        async with running(bench.device):
            await bench.online()
            await broker.until(lambda: bool(broker.sessions))
            broker.after_connack = encode(Publish("a", b'{"t": 7}', qos=1, packet_id=9), 5)
            broker.drop()
            found = await bench.count(1)
    assert found == [{"t": 7}]


async def test_a_gateway_that_is_behind_reads_no_more() -> None:
    """The broker waits, or its own queue for this client takes what comes."""
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    taken = 0

    def put(*_: Any) -> asyncio.Future[None] | None:
        nonlocal taken
        taken += 1
        return None if room.done() else room

    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["a"], qos=0)
        bench.device._put = put
        async with running(bench.device):
            await bench.online()
            message, sent = Publish("a", b'{"t": "%s"}' % (b"x" * 1000)), 0
            (client,) = broker.conversations
            async with asyncio.timeout(WAIT):
                while client.transport.get_write_buffer_size() < 1 << 16:  # until the socket takes no more
                    for _ in range(100):
                        broker.publish(message)
                    sent += 100
                    await asyncio.sleep(0)
                before = taken
                room.set_result(None)
                while taken < sent:
                    await asyncio.sleep(0)
    assert 0 < before < sent / 2


async def test_why_there_is_nothing_is_said() -> None:
    """A broker that is away, refuses the password, refuses the subscription, or goes."""
    async with ScriptedBroker() as broker:
        broker.refuse = 0x87
        bench = Bench(broker, ["a"])

        async def reason(words: str) -> None:
            async with asyncio.timeout(WAIT):
                while words not in (bench.device.reason or ""):
                    await asyncio.sleep(0)

        async with running(bench.device):
            await reason("not authorised")
            broker.refuse = None
            broker.granted = lambda name, qos: 0x87
            await reason("refuses the subscription")
            broker.granted = lambda name, qos: qos
            await bench.online()
            await broker.stop()
            await reason("refused")
            await broker.start()
            await bench.online()


async def test_a_device_that_says_nothing_is_silent() -> None:
    """It is there when it speaks, and silent when it does not for too long, although the broker is there."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["a"], silent_after=0.3)
        async with running(bench.device), asyncio.timeout(WAIT):
            while bench.device.state != "silent":
                await asyncio.sleep(0)
            assert bench.device.reason == f"nothing from {broker.url} for 0.3 s"
            while not bench.notes.readings:
                broker.publish(Publish("a", b'{"t": 1}'))
                await asyncio.sleep(0)
            assert ("d", True) in bench.notes.states
            while bench.device.state != "silent":
                await asyncio.sleep(0)


async def test_a_bug_in_what_takes_the_messages_is_not_hidden() -> None:
    """It fails the device; the client that hears for it would only log it."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["a"])

        def put(*_: Any) -> None:
            raise KeyError("a bug")

        bench.device._put = put
        async with running(bench.device), asyncio.timeout(WAIT):
            await bench.online()
            broker.publish(Publish("a", b'{"t": 1}'))
            while bench.device.state != "failed":
                await asyncio.sleep(0)


async def test_a_huge_message_is_thrown_away() -> None:
    """It is counted, and what comes after it is read."""
    async with ScriptedBroker() as broker:
        bench = Bench(broker, ["a"], max_payload=100)
        async with running(bench.device):
            await bench.online()
            broker.publish(Publish("a", b'{"t": "%s"}' % (b"x" * 500_000)))
            broker.publish(Publish("a", b'{"t": 1}'))
            await bench.count(1)
    assert bench.device.skipped == {"a message of more than 100 bytes": 1}


def test_tls_is_not_lost_and_a_secret_is_not_shown() -> None:
    """What the keys of a broker say is what the client does; the password stands in no text of the adapter."""
    table = {"url": "mqtts://b.example", "username": "me", "password": SecretStr("geheim"), "tls": {"server_name": "x"}}
    adapter = Mqtt.model_validate({"broker": table, "topics": ["a"]})
    client = adapter.client(print)
    (endpoint,) = client._brokers
    assert endpoint.address.tls
    assert endpoint.options.tls is not None
    assert endpoint.options.tls.server_name == "x"
    assert endpoint.options.password == b"geheim"
    assert "geheim" not in f"{adapter!r} {adapter.model_dump_json()} {client!r}"
    plain = Mqtt.model_validate({"broker": "mqtts://b.example", "topics": ["a"]}).client(print)
    assert plain._brokers[0].address.tls


@pytest.mark.parametrize(
    ("broker", "topic", "heard"),
    [
        ("mqtt://127.0.0.1:1883", "sensors/pi/boiler", True),
        ("mqtt://[::1]:1883", "sensors/pi/boiler", True),
        ("mqtt://127.0.0.1:1884", "sensors/pi/boiler", False),
        ("mqtt://other:1883", "sensors/pi/boiler", False),
        ("unix:///run/mosquitto.sock", "sensors/pi/boiler", False),
        ("mqtt://localhost:1883", "sensors/pi/boiler/status", False),
    ],
)
def test_what_it_hears(broker: str, topic: str, heard: bool) -> None:
    """Names of this machine are one; another port, or another host, is taken for another broker."""
    assert Mqtt.model_validate({"broker": "mqtt://localhost", "topics": ["sensors/+/+"]}).hears(broker, topic) == heard


@pytest.mark.system
async def test_at_a_real_broker(tmp_path: Path) -> None:
    """What mosquitto keeps for the session while nobody is there is read when somebody is, with its own time."""
    with Mosquitto(tmp_path) as broker:
        table = {"url": broker.url, "client_id": "in-1"}
        adapter = Mqtt.model_validate({"broker": table, "topics": ["a/+"], "time": "ts", "keep_session": 60})
        async with Client(broker.url) as sender:
            for n in range(3):
                notes = Notebook()
                device = notes.device("d", adapter)

                def newest(notes: Notebook = notes) -> list[float | None]:
                    return [time for _, _, time in notes.readings][-1:]

                async with running(device):
                    await notes.until(lambda newest=newest, n=n: newest() == [1763600000.0 + n - 1][: bool(n)])
                    await notes.until(lambda device=device: device.state == "online")
                await sender.publish("a/b", b'{"ts": %d, "t": 1}' % (1763600000 + n))
                await sender.flush(5)
                assert len(notes.readings) <= n  # what a stop leaves without its acknowledgement comes again
