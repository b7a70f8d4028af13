"""The way to a broker: what it carries, what it makes of it, and what it has witnessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.cli.selftest.passage import Passage, Witness
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Connect, Puback, Publish


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_the_broker_has_acknowledged_is_witnessed(level: int, size: int) -> None:
    """Each message whose PUBACK has come by, however the bytes are cut, and no other; a refusal is none."""
    sent = [Publish("a", b"%d" % n, 1, packet_id=n) for n in range(1, 6)] + [Publish("a", b"0")]
    up = b"".join(encode(packet, level) for packet in (Connect(level, "c"), *sent))
    down = b"".join(encode(Puback(n), level) for n in (1, 3, 4))
    if level == 5:
        down += encode(Puback(5, 0x97), level)
    acknowledged: set[tuple[str, bytes]] = set()
    witness = Witness(acknowledged)
    for at in range(0, len(up), size):
        witness.up(up[at : at + size])
    assert acknowledged == set()
    for at in range(0, len(down), size):
        witness.down(down[at : at + size])
    assert acknowledged == {("a", b"1"), ("a", b"3"), ("a", b"4")}


class Echo:
    """A broker that hears a CONNECT and PUBLISHes, and answers each PUBLISH of QoS 1 that is whole."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                for _ in range(data.count(WHOLE)):
                    writer.write(encode(Puback(1), 4))
                self.heard += data
        except OSError:
            pass
        finally:
            writer.close()
            self.ended.set()


WHOLE = encode(Publish("a", b"x", 1, packet_id=1), 4)
HELLO = encode(Connect(4, "c"), 4)
ACK = encode(Puback(1), 4)


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Passage]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with Passage(server.sockets[0].getsockname()[1]) as passage:
        passage.open = True
        yield echo, passage
    server.close()
    await asyncio.sleep(0)


async def connect(passage: Passage) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", passage.port)
    writer.write(HELLO)
    return reader, writer


async def end(reader: asyncio.StreamReader) -> bytes:
    """Return what still came before the connection ended."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except OSError:
            return b""


async def test_it_carries(echo: tuple[Echo, Passage]) -> None:
    """Nothing is done to bytes that nothing is to be done to."""
    broker, passage = echo
    reader, writer = await connect(passage)
    writer.write(WHOLE)
    assert await reader.readexactly(4) == ACK
    assert broker.heard == HELLO + WHOLE
    assert passage.acknowledged == {("a", b"x")}
    writer.close()


async def test_a_cut_is_in_the_middle_of_a_packet(echo: tuple[Echo, Passage]) -> None:
    """The broker gets the first bytes, and both ends are reset."""
    broker, passage = echo
    reader, writer = await connect(passage)
    writer.write(WHOLE)
    await reader.readexactly(4)
    passage.cut("up", 3)
    writer.write(WHOLE)
    assert await end(reader) == b""
    await broker.ended.wait()
    assert broker.heard in (HELLO + WHOLE, HELLO + WHOLE + WHOLE[:3])
    writer.close()


async def test_what_is_swallowed_on_the_way_back_was_acknowledged(echo: tuple[Echo, Passage]) -> None:
    """Half open: the broker hears and answers, the answer vanishes, and healing resets the connection."""
    broker, passage = echo
    reader, writer = await connect(passage)
    passage.swallow = frozenset({"down"})
    writer.write(WHOLE)
    async with asyncio.timeout(10):
        while not passage.acknowledged:
            await asyncio.sleep(0)
    passage.heal()
    assert await end(reader) == b""
    assert broker.heard == HELLO + WHOLE
    writer.close()


async def test_what_is_swallowed_on_the_way_there_never_arrives(echo: tuple[Echo, Passage]) -> None:
    """Half open the other way: nothing is heard, and nothing is witnessed."""
    broker, passage = echo
    reader, writer = await connect(passage)
    writer.write(WHOLE)
    await reader.readexactly(4)
    passage.acknowledged.clear()
    passage.swallow = frozenset({"up"})
    writer.write(WHOLE)
    await writer.drain()
    passage.drop()
    assert await end(reader) == b""
    await broker.ended.wait()
    assert broker.heard == HELLO + WHOLE
    assert passage.acknowledged == set()
    writer.close()


@pytest.mark.parametrize("how", ["closed", "refuse"])
async def test_nobody_is_let_in_before_it_is_open(echo: tuple[Echo, Passage], how: str) -> None:
    """Whoever comes while there is no receiver, or while it refuses, is hung up on before the broker knows."""
    broker, passage = echo
    passage.open, passage.refuse = how != "closed", how == "refuse"
    reader, writer = await connect(passage)
    assert await end(reader) == b""
    assert broker.heard == b""
    writer.close()


async def test_a_slow_link_carries_everything(echo: tuple[Echo, Passage]) -> None:
    """In small pieces, and all of it."""
    broker, passage = echo
    passage.rate = 20_000.0
    reader, writer = await connect(passage)
    writer.write(WHOLE)
    writer.write(b"".join(encode(Publish("a", b"y" * 300), 4) for _ in range(10)))
    async with asyncio.timeout(20):
        while len(broker.heard) < len(HELLO + WHOLE) + 3000:
            await asyncio.sleep(0.001)
    writer.close()
    assert await end(reader) in (ACK, b"")
