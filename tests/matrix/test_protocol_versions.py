"""MQTT 3.1, 3.1.1 and 5.0: the right words on the wire, and the version found by itself."""

from __future__ import annotations

import asyncio

import pytest

from gateway import Broker, Client, NotConnected
from tests.matrix.quick import numbers, publish, quick, until
from tests.scripted_broker import UNSUPPORTED_IN_3, UNSUPPORTED_IN_5, ScriptedBroker


@pytest.mark.parametrize(
    ("protocol", "name_and_level"),
    [("3.1", b"\x00\x06MQIsdp\x03"), ("3.1.1", b"\x00\x04MQTT\x04"), ("5", b"\x00\x04MQTT\x05")],
)
async def test_name_and_level_on_the_wire(protocol: str, name_and_level: bytes) -> None:
    """Each version introduces itself with the name and the level that its specification gives it."""
    hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(2 + len(name_and_level))
        if not hello.done():
            hello.set_result(first)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, quick(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}", protocol=protocol):
        first = await asyncio.wait_for(hello, 5)
    assert first[0] == 0x10
    assert first[2:] == name_and_level


@pytest.mark.parametrize(
    ("answer", "knows"),
    [(UNSUPPORTED_IN_5, 4), (UNSUPPORTED_IN_3, 4), (None, 4), (UNSUPPORTED_IN_3, 3), (None, 3)],
    ids=["0x84", "0x01", "close", "0x01, old", "close, old"],
)
async def test_auto_falls_back_and_remembers(scripted: ScriptedBroker, answer: bytes | None, knows: int) -> None:
    """5, then 3.1.1, then 3.1, however an old broker says no; asked once, not at each connect."""
    scripted.levels, scripted.unsupported = (knows,), answer
    asked = [level for level in (5, 4, 3) if level >= knows]
    async with quick(scripted) as client:
        assert (await client.connected(5)).protocol == {3: "3.1", 4: "3.1.1"}[knows]
        assert [packet.level for packet in scripted.connects] == asked
        for _ in range(3):
            before = len(scripted.connects)
            scripted.drop()
            await scripted.until(lambda before=before: len(scripted.connects) > before)
            await client.connected(5)
        assert [packet.level for packet in scripted.connects] == [*asked, knows, knows, knows]
        assert client.status.brokers[0].protocol == client.status.protocol


async def test_what_was_agreed_is_remembered_for_each_broker(scripted: ScriptedBroker) -> None:
    """That one broker is old says nothing about the next."""
    scripted.levels = (4,)
    async with ScriptedBroker() as modern, quick(scripted, modern, failback=None) as client:
        await client.connected(5)
        await scripted.stop()
        await until(lambda: client.status.broker == modern.url)
        assert client.status.protocol == "5"
        await scripted.start()
        await modern.stop()
        await until(lambda: client.status.broker == scripted.url)
        assert client.status.protocol == "3.1.1"
    assert [packet.level for packet in modern.connects] == [5]


@pytest.mark.parametrize("length", [24, 60])
def test_mqtt_3_1_takes_client_ids_of_23_characters(length: int) -> None:
    """A longer one is refused before anything is sent, and the error names the parameter and the limit."""
    for make in (
        lambda: Client("mqtt://127.0.0.1:1", client_id="x" * length, protocol="3.1"),
        lambda: Client(Broker("mqtt://127.0.0.1:1", client_id="x" * length, protocol="3.1")),
    ):
        with pytest.raises(ValueError, match=rf"client_id must have 1 to 23 characters for MQTT 3\.1, not {length}"):
            make()
    Client("mqtt://127.0.0.1:1", client_id="x" * 23, protocol="3.1")


async def test_auto_never_asks_for_3_1_with_a_longer_client_id(scripted: ScriptedBroker) -> None:
    """There it could only be refused."""
    scripted.levels, scripted.unsupported = (3,), UNSUPPORTED_IN_3
    async with quick(scripted, client_id="x" * 24) as client:
        with pytest.raises(NotConnected, match="unsupported protocol version"):
            await client.connected(0.3)
    assert {packet.level for packet in scripted.connects} == {5, 4}


@pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])
async def test_every_qos_in_every_version(scripted: ScriptedBroker, protocol: str) -> None:
    """QoS 0, 1 and 2 go both ways, in order and once each."""
    scripted.deliver = True
    async with quick(scripted, protocol=protocol) as client, client.messages("t", 2) as messages:
        for qos in (0, 1, 2):
            await asyncio.gather(*await publish(client, range(10), qos))
            heard = [await asyncio.wait_for(anext(messages), 5) for _ in range(10)]
            assert [(int(one.payload), one.qos) for one in heard] == [(number, qos) for number in range(10)]
    assert len(numbers(scripted)) == 30
