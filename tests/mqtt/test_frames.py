"""A WebSocket frame by frame, with a server that is a value: what goes through, and what ends it."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.server import ServerProtocol

from gateway.mqtt import Address, Options
from gateway.mqtt.codec import encode
from gateway.mqtt.packets import Publish
from gateway.mqtt.ways.upgrade import Request
from gateway.mqtt.ways.websocket import WebSocket


class Above(asyncio.Protocol):
    """What knows only MQTT: it keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.reads = 0
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.data += data
        self.reads += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Below(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = ""
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.paused = True

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"


class Pair:
    """A WebSocket that has just been opened, and the server's side of it."""

    def __init__(self, *, after: bytes = b"", steps: int = 1 << 20) -> None:
        self.above, self.below = Above(), Below()
        request = Request.of(Address.parse("ws://broker.example"), Options("me", maximum_packet_size=100_000))
        self.websocket = WebSocket(self.above, request)
        self.server = ServerProtocol(subprotocols=["mqtt"])  # type: ignore[list-item]
        self.websocket.connection_made(self.below)
        self.server.receive_data(self.below.written)
        (asked,) = self.server.events_received()
        self.server.send_response(self.server.accept(asked))  # type: ignore[arg-type]
        self.below.written = b""
        answer = b"".join(self.server.data_to_send()) + after
        for at in range(0, len(answer), steps):
            self.websocket.data_received(answer[at : at + steps])

    def feed(self, *frames: Frame) -> None:
        """Have the client read these frames at once."""
        self.websocket.data_received(b"".join(frame.serialize(mask=False) for frame in frames))

    def heard(self) -> list[Frame]:
        """Return what the server has got; it insists on masks."""
        self.server.receive_data(self.below.written)
        self.below.written = b""
        assert self.server.parser_exc is None
        return self.server.events_received()  # type: ignore[return-value]

    def end(self) -> str:
        """Return why the link was lost."""
        assert self.below.closed
        self.websocket.connection_lost(None)
        (error,) = self.above.lost
        assert isinstance(error, OSError)
        return str(error.strerror)


async def test_what_comes_with_the_answer_is_not_lost() -> None:
    """The first frames may come in one read with the answer, and the answer in many."""
    frames = Frame(Opcode.BINARY, b"\x20\x02").serialize(mask=False) + Frame(Opcode.BINARY, b"\x00\x00").serialize(
        mask=False
    )
    for steps in (1, 2, 50, 1 << 20):
        assert Pair(after=frames, steps=steps).above.data == b"\x20\x02\x00\x00"


PAYLOADS = st.binary(max_size=300) | st.integers(0, 70_000).map(bytes)
MESSAGES = st.lists(st.tuples(PAYLOADS, st.integers(1, 4), st.booleans()), max_size=6)


@given(messages=MESSAGES, seed=st.integers(0, 2**32))
def test_every_split(messages: list[tuple[bytes, int, bool]], seed: int) -> None:
    """However the server frames and the network cuts, the bytes of MQTT come out in order, and pings are answered."""
    asyncio.run(_split(messages, random.Random(seed)))


async def _split(messages: list[tuple[bytes, int, bool]], chance: random.Random) -> None:
    pair = Pair()
    stream, pings = b"", 0
    for payload, fragments, pinged in messages:
        cuts = sorted([0, *(chance.randint(0, len(payload)) for _ in range(fragments - 1)), len(payload)])
        for number, (start, stop) in enumerate(pairwise(cuts)):
            fin = number == fragments - 1
            stream += Frame(Opcode.CONT if number else Opcode.BINARY, payload[start:stop], fin).serialize(mask=False)
            if pinged:
                stream += Frame(Opcode.PING, b"%d" % pings).serialize(mask=False)
                pings += 1
    at = 0
    while at < len(stream):
        step = chance.choice((1, 2, 5, 100, 20_000))
        pair.websocket.data_received(stream[at : at + step])
        at += step
    assert pair.above.data == b"".join(payload for payload, _, _ in messages)
    answers = pair.heard()
    assert [frame.opcode for frame in answers] == [Opcode.PONG] * pings
    assert [bytes(frame.data) for frame in answers] == [b"%d" % number for number in range(pings)]


async def test_the_frames_of_one_read_are_handed_over_together() -> None:
    """A hundred acknowledgements in a hundred frames are one read for MQTT."""
    pair = Pair()
    pair.feed(*(Frame(Opcode.BINARY, b"%03d" % number) for number in range(100)))
    assert (pair.above.reads, len(pair.above.data)) == (1, 300)


@pytest.mark.parametrize(
    ("frames", "code", "words"),
    [
        ([Frame(Opcode.TEXT, b"hello")], 1003, "a text frame came, and MQTT travels in binary ones"),
        ([Frame(Opcode.CONT, b"x")], 1002, "unexpected continuation frame"),
        ([Frame(Opcode.BINARY, b"x", fin=False), Frame(Opcode.BINARY, b"x")], 1002, "expected a continuation frame"),
        ([Frame(Opcode.BINARY, bytes(2_000_000))], 1009, "frame with 2000000 bytes exceeds limit of 1148576 bytes"),
        ([Frame(Opcode.BINARY, b"x", rsv1=True)], 1002, "reserved bits must be 0"),
        ([Frame(Opcode.PING, bytes(126))], 1002, "control frame too long"),
        ([Frame(Opcode.CLOSE, b"x")], 1002, "close frame too short"),
    ],
)
async def test_a_breach_of_the_protocol_of_websockets(
    frames: list[Frame], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a WebSocket does not allow ends the link, is told in words, and to the server with its code."""
    monkeypatch.setattr(Frame, "check", lambda frame: None)
    raw = [frame.serialize(mask=False) for frame in frames]
    monkeypatch.undo()
    pair = Pair()
    before, after = (Frame(Opcode.BINARY, word).serialize(mask=False) for word in (b"before", b"after"))
    pair.websocket.data_received(before + b"".join(raw) + after)
    assert pair.above.data.startswith(b"before")  # what was right is handed over first
    (goodbye,) = pair.heard()
    assert goodbye.opcode is Opcode.CLOSE
    assert Close.parse(bytes(goodbye.data)).code == code
    pair.websocket.data_received(after)
    assert b"after" not in pair.above.data
    assert pair.end() == f"the broker broke the protocol of WebSockets: {words}"


@pytest.mark.parametrize("raw", [b"\x83\x01x", b"\x82\x81abcdx", b"\x82\xfe\xff"])
async def test_frames_that_are_none(raw: bytes) -> None:
    """An opcode that does not exist, and a mask, which only a client may have, end the link."""
    pair = Pair()
    pair.websocket.data_received(raw)
    assert pair.end().startswith("the broker broke the protocol of WebSockets: in")


async def test_a_frame_too_large_is_refused_by_its_header() -> None:
    """A frame of a terabyte is not waited for."""
    pair = Pair()
    pair.websocket.data_received(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
    assert "exceeds limit" in pair.end()
    pair = Pair()
    for _ in range(100):
        pair.feed(Frame(Opcode.CONT if pair.above.data else Opcode.BINARY, bytes(100_000), fin=False))
    assert len(pair.above.data) < 1_200_000  # a message without end is refused as well
    assert pair.below.closed


async def test_pings_do_not_pile_up() -> None:
    """A server that asks and does not read the answers is not listened to until it does."""
    pair = Pair()
    pair.feed(Frame(Opcode.PING, b""))
    assert not pair.below.paused
    pair.websocket.pause_writing()
    pair.feed(Frame(Opcode.PING, b""))
    assert pair.below.paused


async def test_goodbye() -> None:
    """An orderly end is said in a close frame, and nothing is sent after it, nor after the server's."""
    pair = Pair()
    pair.websocket.close()
    pair.websocket.write(b"late")
    assert [frame.opcode for frame in pair.heard()] == [Opcode.CLOSE]
    assert pair.below.closed == "closed"
    pair = Pair()
    pair.feed(
        Frame(Opcode.BINARY, b"last"), Frame(Opcode.CLOSE, Close(1000, "").serialize()), Frame(Opcode.BINARY, b"late")
    )
    pair.websocket.write(b"late")
    assert [frame.opcode for frame in pair.heard()] == [Opcode.CLOSE]
    assert (pair.above.data, pair.end()) == (b"last", "the broker closed the WebSocket: 1000 (OK)")


async def test_who_drops_it_waits_until_the_socket_is_closed() -> None:
    """When an attempt has failed, nothing of it is left open: the loop closes a socket only in its next round."""
    pair = Pair()
    loop = asyncio.get_running_loop()
    closed: list[bool] = []

    def close() -> None:
        closed.append(True)
        pair.websocket.connection_lost(None)

    pair.below.abort = lambda: loop.call_soon(close) and None  # type: ignore[method-assign]
    await pair.websocket.dropped()
    assert closed == [True]


def test_opcodes_are_what_the_fast_way_takes_them_for() -> None:
    """A whole binary message begins with 0x82, and nothing else does."""
    for opcode in Opcode:
        for fin in (False, True):
            if opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG) and not fin:
                continue
            first = Frame(opcode, b"", fin).serialize(mask=False)[0]
            assert (first == 0x82) == (opcode is Opcode.BINARY and fin)


def test_the_packet_of_a_publish_is_no_more_than_its_frame() -> None:
    """A packet of the largest size fits into the largest frame."""
    request = Request.of(Address.parse("ws://broker.example"), Options("me", maximum_packet_size=100_000))
    assert request.largest > len(encode(Publish("t", bytes(99_000)), 5))
