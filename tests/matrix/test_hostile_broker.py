"""A broker that does what it must not: a clear protocol error or what the specification allows, and bounded memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.mqtt import Address, ConnectError, Connection, Message, Options, ProtocolError, connect
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from tests.mqtt.recorder import Recorder, batch
from tests.scripted_broker import ScriptedBroker

LEVELS = {"3.1.1": 4, "5": 5}
PROTOCOLS = pytest.mark.parametrize("protocol", list(LEVELS))
OPTIONS = {"receive_maximum": 10, "topic_alias_maximum": 5, "maximum_packet_size": 100_000}


async def dial(url: str, recorder: Recorder, **options: object) -> Connection:
    return await connect(Address.parse(url), Options("me", **{**OPTIONS, **options}), recorder)  # type: ignore[arg-type]


# What is sent, at which level, the words for it, and the code that it is answered with in MQTT 5.
BREACHES: list[tuple[str, Packet | bytes, str, int]] = [
    ("5", Connack(), "CONNACK where it cannot be", 0x82),
    ("3.1.1", Connack(), "CONNACK where it cannot be", 0),
    ("5", Connect(5, "you"), "CONNECT where it cannot be", 0x82),
    ("5", Subscribe(1, (Subscription("a"),)), "SUBSCRIBE where it cannot be", 0x82),
    ("5", Unsubscribe(1, ("a",)), "UNSUBSCRIBE where it cannot be", 0x82),
    ("5", Pingreq(), "PINGREQ where it cannot be", 0x82),
    ("5", Auth(0x18, {"authentication_method": "x"}), "AUTH where it cannot be", 0x82),
    ("3.1.1", Disconnect(), "DISCONNECT where it cannot be", 0),
    ("5", b"\x40\x02\x00\x00", "packet identifier 0", 0x82),
    ("5", b"\x50\x02\x00\x00", "packet identifier 0", 0x82),
    ("5", b"\x62\x02\x00\x00", "packet identifier 0", 0x82),
    ("3.1.1", b"\x32\x05\x00\x01a\x00\x00", "packet identifier 0", 0),
    ("5", b"\x60\x02\x00\x01", "no packet begins with 0x60", 0x81),
    ("5", b"\x36\x05\x00\x01a\x00\x01", "no packet begins with 0x36", 0x81),
    ("5", b"\x30\xff\xff\xff\x7f", "more than the 100000 allowed", 0x95),
    ("5", b"\x30\xff\xff\xff\xff\x7f", "malformed packet length", 0x81),
    ("5", b"\x30\x07\x00\x01a\x03\x23\x00\x00", "topic_alias with the value 0", 0x94),
    ("5", Publish("a", b"", properties={"topic_alias": 6}), "topic alias 6, more than the 5 offered", 0x94),
    ("5", Publish("", b"", properties={"topic_alias": 5}), "topic alias 5 before its topic", 0x82),
    ("5", b"\x30\x05\x00\x03a/+\x00", "wildcard", 0x90),
    ("5", b"\x30\x04\x00\x01\xff\x00", "not UTF-8", 0x81),
    ("5", b"\xd0\x01\x00", "bytes too many", 0x81),
]


@pytest.mark.parametrize(("protocol", "sent", "words", "code"), BREACHES)
async def test_a_breach_is_told_and_answered(protocol: str, sent: Packet | bytes, words: str, code: int) -> None:
    """The link is lost with the reason in words, in MQTT 5 the broker hears its code, and a new link can be made."""
    recorder = Recorder()
    async with ScriptedBroker() as broker:
        link = await dial(broker.url, recorder, protocol=protocol)
        broker.send(sent)
        lost = await recorder.loss()
        assert lost.startswith("the broker broke the protocol: ")
        assert words in lost
        assert isinstance(recorder.losses[0].__cause__, ProtocolError)
        await broker.until(lambda: broker.clients == 0)
        assert [packet.reason for packet in broker.disconnects] == ([code] if code else [])
        again = await dial(broker.url, Recorder(), protocol=protocol)
        await again.ping()
        await asyncio.gather(link.close(), again.close())


@PROTOCOLS
@pytest.mark.parametrize("first", [Publish("a", b""), Puback(1), Pingresp(), Suback(1, (0,)), b"\x20\x02\x02\x00"])
async def test_another_order_than_connack_first(protocol: str, first: Packet | bytes) -> None:
    """Whoever begins with something else than CONNACK is no MQTT broker."""
    async with ScriptedBroker() as broker:
        broker.mute_after = "connect"
        opening = asyncio.ensure_future(dial(broker.url, Recorder(), protocol=protocol))
        await broker.until(lambda: bool(broker.connects))
        broker.send(first)
        with pytest.raises(ConnectError, match="the answer to CONNECT is not MQTT") as caught:
            await opening
        assert caught.value.kind == "protocol"
        await broker.until(lambda: broker.clients == 0)


@PROTOCOLS
async def test_answers_that_nobody_asked_for(protocol: str) -> None:
    """Acknowledgements of nothing tell nothing, and are answered where the specification has an answer."""
    level, recorder = LEVELS[protocol], Recorder()
    async with ScriptedBroker() as broker:
        link = await dial(broker.url, recorder, protocol=protocol)
        for packet_id in (1, 7, 65_535):
            for packet in (Puback, Pubrec, Pubcomp, Pubrel):
                broker.send(packet(packet_id))
            broker.send(Suback(packet_id, (0,)))
            broker.send(Unsuback(packet_id, (0,) if level == 5 else ()))
        broker.send(Pingresp())
        await link.ping()
        link.publish(batch(5), 1)
        await recorder.until(lambda: len(recorder.tokens) == 5)
        assert (recorder.tokens, recorder.losses, recorder.messages) == ([0, 1, 2, 3, 4], [], [])
        not_found = 0x92 if level == 5 else 0
        assert {(packet.packet_id, packet.reason) for packet in broker.releases} == {
            (one, not_found) for one in (1, 7, 65_535)
        }
        completed = [packet for packet in broker.answers if isinstance(packet, Pubcomp)]
        assert {(packet.packet_id, packet.reason) for packet in completed} == {
            (one, not_found) for one in (1, 7, 65_535)
        }
        assert link.in_flight == []
        await link.close()
        assert broker.errors == []


async def test_answers_with_wrong_identifiers_acknowledge_nothing() -> None:
    """What is in flight stays so, and is found overdue; it is never taken for delivered."""
    recorder = Recorder()
    async with ScriptedBroker() as broker:
        broker.stop_acks = True
        link = await dial(broker.url, recorder, ack_timeout=0.3)
        link.publish(batch(3), 1)
        link.publish(batch(3, 10), 2)
        await broker.wait_published(6)
        for packet_id in (*range(4, 7), 100, 60_000):
            broker.send(Puback(packet_id) if packet_id > 6 else Pubcomp(packet_id))
        for packet_id in range(1, 4):
            broker.send(Pubrec(packet_id))  # of messages at QoS 1
        assert await recorder.loss() == "no acknowledgement for 0.3 s"
        assert sorted(link.in_flight) == [0, 1, 2, 10, 11, 12]
        assert (recorder.tokens, recorder.records) == ([], [])
        await link.close()


@pytest.mark.parametrize("qos", [1, 2])
async def test_more_messages_than_were_allowed(qos: int) -> None:
    """A broker that does not wait for our answers is told so when it goes beyond the receive maximum."""
    recorder = Recorder()
    async with ScriptedBroker() as broker:
        link = await dial(broker.url, recorder, hold_received=True)
        broker.send(b"".join(encode(Publish("a", b"", qos, packet_id=n), 5) for n in range(1, 30)))
        assert "more than 10 messages without an answer to any" in await recorder.loss()
        assert len(recorder.messages) == 10
        await broker.until(lambda: bool(broker.disconnects))
        assert broker.disconnects[0].reason == 0x93
        await link.close()


# -- servers that need more than a packet

Serve = Callable[[Callable[[bytes], Awaitable[None]], int], Awaitable[None]]


@asynccontextmanager
async def serving(after_connect: Serve) -> AsyncIterator[str]:
    """Listen, wait for CONNECT, and then do this with a function that writes; give the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        framer = Framer(1 << 20)
        try:
            found: list[Packet] = []
            while not found:
                found = [decode(first, body, 5) for first, body in framer.feed(await reader.read(1000))]
            assert isinstance(found[0], Connect)
            await after_connect(write, found[0].level)
            await reader.read()
        except ConnectionError:
            pass  # it hung up, which is its right
        finally:
            writer.close()

    tasks: set[asyncio.Task[None]] = set()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait_for(asyncio.gather(*tasks), 5.0)


@PROTOCOLS
async def test_one_byte_at_a_time(protocol: str) -> None:
    """However slowly it comes, a conversation is what it is."""
    packets = [
        Connack(),
        Publish("topic", b"payload" * 30, 1, packet_id=1),
        Publish("topic", b"payload", 2, packet_id=2),
        Pubrel(2),
        Publish("topic", b"last"),
    ]

    async def dribble(write: Callable[[bytes], Awaitable[None]], level: int) -> None:
        for byte in b"".join(encode(packet, level) for packet in packets):
            await write(bytes((byte,)))
            await asyncio.sleep(0)

    recorder = Recorder()
    async with serving(dribble) as url:
        link = await dial(url, recorder, protocol=protocol)
        await recorder.until(lambda: len(recorder.messages) == 3)
        assert [(one.payload[:7], one.qos) for one in recorder.messages] == [
            (b"payload", 1),
            (b"payload", 2),
            (b"last", 0),
        ]
        assert link.received_ids == set()
        link.abort()


class Counting(Recorder):
    """Keeps no message."""

    count = 0

    def received(self, message: Message) -> None:
        self.count += 1
        self._happened()


@PROTOCOLS
async def test_messages_without_end_fill_no_memory(protocol: str) -> None:
    """A broker that never stops is read as fast as it is taken, and nothing of it is kept."""
    recorder, wanted = Counting(), 40_000

    async def flood(write: Callable[[bytes], Awaitable[None]], level: int) -> None:
        await write(encode(Connack(), level))
        chunk = b"".join(encode(Publish(f"t/{n}", bytes(200)), level) for n in range(300))
        while True:
            await write(chunk)

    async with serving(flood) as url:
        link = await dial(url, recorder, protocol=protocol)
        await recorder.until(lambda: recorder.count > 2_000)
        tracemalloc.start()
        try:
            before = recorder.count
            await recorder.until(lambda: recorder.count >= before + wanted, 30)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000, f"{peak} bytes for {wanted} messages of 200"
        link.abort()


async def test_a_packet_that_never_ends_fills_no_memory() -> None:
    """The first bytes of a packet that is too large are enough: none of its body is waited for."""

    async def endless(write: Callable[[bytes], Awaitable[None]], level: int) -> None:
        await write(encode(Connack(), level) + b"\x30\xff\xff\xff\x7f")
        while True:
            await write(bytes(1 << 16))

    recorder = Recorder()
    async with serving(endless) as url:
        link = await dial(url, recorder)
        assert "more than the 100000 allowed" in await recorder.loss()
        assert link._session._framer.kept == 0
        await link.close()
