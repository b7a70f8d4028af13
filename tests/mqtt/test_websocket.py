"""MQTT in a WebSocket: the same as without, and clear words for whatever is not one."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Callable

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response
from websockets.utils import accept_key

from gateway.mqtt import Address, ConnectError, Connection, ConnectRefused, Network, Options, connect
from gateway.mqtt.packets import Publish
from tests.mqtt.recorder import Recorder, batch
from tests.mqtt.websocket_server import Front
from tests.scripted_broker import ScriptedBroker

Answer = Callable[[ServerConnection], Response | None]


async def dial(url: str, recorder: Recorder, **options: object) -> Connection:
    """Open a link."""
    return await connect(Address.parse(url), Options("me", **options), recorder)  # type: ignore[arg-type]


async def failure(url: str, **options: object) -> str:
    """Return why no link could be made, which must be the WebSocket's fault."""
    with pytest.raises(ConnectError) as caught:
        await dial(url, Recorder(), **options)
    assert caught.value.kind == "websocket"
    return str(caught.value)


# -- with a server


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_link_in_a_websocket(broker: ScriptedBroker, protocol: str) -> None:
    """In a WebSocket everything is as it is without: messages, acknowledgements, an orderly end."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder, protocol=protocol)
        link.publish(batch(1000))
        await recorder.until(lambda: len(recorder.tokens) == 1000)
        broker.send(Publish("down", bytes(70_000)))
        await recorder.until(lambda: len(recorder.messages) == 1)
        assert recorder.messages[0].payload == bytes(70_000)
        await asyncio.wait_for(link.close(30), 5)
        assert len(broker.published) == 1000
        assert (len(broker.disconnects), broker.wills, broker.errors) == (1, [], [])


async def test_what_is_asked_for(broker: ScriptedBroker) -> None:
    """The request names the path, the subprotocol and the given headers, and no compression."""
    async with Front(broker) as front:
        network = Network(headers=(("Authorization", "Bearer hunter2"), ("X-Two", "2"), ("Host", "broker.example")))
        for path in ("", "/", "/a/b%20c"):
            await (await dial(front.url + path, Recorder(), network=network)).close()
        assert [request.path for request in front.requests] == ["/mqtt", "/", "/a/b%20c"]
        headers = front.requests[0].headers
        assert headers.get_all("Sec-WebSocket-Protocol") == ["mqtt"]
        assert headers.get_all("Authorization") == ["Bearer hunter2"]
        assert headers.get_all("X-Two") == ["2"]
        assert headers.get_all("Host") == ["broker.example"]
        assert "Sec-WebSocket-Extensions" not in headers
        assert [link.subprotocol for link in front.links] == ["mqtt"] * 3


async def test_one_write_is_one_frame(broker: ScriptedBroker) -> None:
    """Many packets travel in one frame, and no frame is longer than 64 KiB, at which some servers hang up."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder)
        link.publish(batch(500))
        await recorder.until(lambda: len(recorder.tokens) == 500)
        assert len(front.frames) == 2  # CONNECT, and all of them
        link.publish([(b"t", bytes(200_000), 1)])
        await recorder.until(lambda: len(recorder.tokens) == 501)
        assert [len(frame) for frame in front.frames[2:-1]] == [65_536] * 3
        await link.close()


@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_packets_are_split_and_merged_over_frames(broker: ScriptedBroker, fragments: bool, size: int) -> None:
    """Where a frame ends says nothing about where a packet does (MQTT 5, section 6.0)."""
    async with Front(broker) as front:
        front.cut = lambda data: [data[at : at + size] for at in range(0, len(data), size)]
        front.fragments = fragments
        recorder = Recorder()
        link = await dial(front.url, recorder)
        for number in range(20):
            broker.send(Publish(f"t/{number}", bytes(number * 7)))
        await recorder.until(lambda: len(recorder.messages) == 20)
        assert [len(message.payload) for message in recorder.messages] == [number * 7 for number in range(20)]
        link.publish(batch(100))
        await recorder.until(lambda: len(recorder.tokens) == 100)
        await link.close()


async def test_a_ping_of_the_server_is_answered(broker: ScriptedBroker) -> None:
    """The server's own sign of life gets an answer, with its payload; a server hangs up on one that is not masked."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder)
        answered = await front.links[0].ping(b"are you there")
        assert await asyncio.wait_for(answered, 5) >= 0
        link.publish(batch(1))
        await recorder.until(lambda: recorder.tokens == [0])
        await link.close()


@pytest.mark.parametrize(("asked", "said"), [(300.0, 40), (0.0, 40), (20.0, 20)])
async def test_keep_alive_stays_short(broker: ScriptedBroker, asked: float, said: int) -> None:
    """Servers close a WebSocket that is silent for a minute, whatever MQTT has agreed."""
    async with Front(broker) as front:
        await (await dial(front.url, Recorder(), keep_alive=asked)).close()
    assert [packet.keep_alive for packet in broker.connects] == [said]
    link = await dial(broker.url, Recorder(), keep_alive=asked)
    await link.close()
    assert broker.connects[-1].keep_alive == asked


@pytest.mark.parametrize("allowed", [0, 300])
async def test_keep_alive_stays_short_whatever_the_broker_allows(broker: ScriptedBroker, allowed: int) -> None:
    """A broker that allows a longer silence does not speak for what lies between."""
    broker.connack["server_keep_alive"] = allowed
    async with Front(broker) as front:
        link = await dial(front.url, Recorder(), keep_alive=0.05)
        await broker.until(lambda: broker.pings > 1)
        await link.close()


async def test_the_end_is_told_with_the_servers_words(broker: ScriptedBroker) -> None:
    """A close frame says why, and what could break a log is taken out."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder)
        await front.links[0].close(1013, "come back\nlater")
        assert await recorder.loss() == "the broker closed the WebSocket: 1013 (try again later) come back later"
        await link.close()


async def test_a_broker_that_breaks_off_is_lost(broker: ScriptedBroker) -> None:
    """A connection that ends without a close frame is a lost link as well."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder)
        front.links[0].transport.abort()
        assert await recorder.loss()
        await link.close()


@pytest.mark.alone
async def test_a_frozen_server_is_left_in_time(broker: ScriptedBroker) -> None:
    """Neither the deadline nor the end waits for a goodbye that does not come."""
    async with Front(broker) as front:
        recorder = Recorder()
        link = await dial(front.url, recorder, ack_timeout=0.2)
        second = await dial(front.url, Recorder())
        for one in front.links:
            one.transport.pause_reading()
        link.publish(batch(1))
        assert await recorder.loss(0.7) == "no acknowledgement for 0.2 s"
        await asyncio.wait_for(asyncio.gather(link.close(0.2), second.close(0.2)), 0.7)


async def test_every_version_of_mqtt_has_one_name(broker: ScriptedBroker) -> None:
    """MQTT 3.1 offers the same subprotocol as the others, and no other: there are servers that then answer both."""
    async with Front(broker) as front:
        await (await dial(front.url, Recorder(), protocol="3.1")).close()
        assert front.requests[0].headers["Sec-WebSocket-Protocol"] == "mqtt"


async def test_a_refusal_by_mqtt_is_one_in_a_websocket(broker: ScriptedBroker) -> None:
    """What CONNACK says is told as ever, and "auto" tries the next protocol in a new WebSocket."""
    async with Front(broker) as front:
        broker.levels = [4]
        link = await dial(front.url, Recorder())
        assert link.protocol == "3.1.1"
        await link.close()
        broker.refuse = 5
        with pytest.raises(ConnectRefused):
            await dial(front.url, Recorder(), protocol="3.1.1")


# -- no WebSocket


def status(code: int, reason: str, **headers: str) -> Answer:
    """Return what answers with this status."""

    def answer(connection: ServerConnection) -> Response:
        made = connection.respond(http.HTTPStatus(code), reason)
        for name, value in headers.items():
            made.headers[name] = value
        return made

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            status(401, "no"),
            "the server refuses the WebSocket at /mqtt: 401 Unauthorized; it may want other credentials or headers",
        ),
        (
            status(403, "no"),
            "the server refuses the WebSocket at /mqtt: 403 Forbidden; it may want other credentials or headers",
        ),
        (
            status(404, "no"),
            "there is no WebSocket at the path /mqtt: 404 Not Found; another path may be right",
        ),
        (
            status(301, "", Location="https://me:hunter2@other.example/ws?token=hunter2"),
            "the server sends us elsewhere (301 Moved Permanently): write wss://other.example/ws if that is right",
        ),
        (
            status(308, "", Location="/ws"),
            "the server sends us elsewhere (308 Permanent Redirect): write ws://127.0.0.1:{port}/ws if that is right",
        ),
        (status(302, ""), "the server sends us elsewhere (302 Found): does not say where"),
        (status(302, "", Location="http://["), "the server sends us elsewhere (302 Found): where to is not a URL"),
        (
            status(503, "busy"),
            "the server answers the request for a WebSocket at /mqtt with 503 Service Unavailable",
        ),
    ],
)
async def test_a_server_that_does_not_open_a_websocket(broker: ScriptedBroker, answer: Answer, words: str) -> None:
    """The answer is told in words that say what may be done, once, and nothing that could be a secret."""
    async with Front(broker) as front:
        front.answer = answer
        network = Network(headers=(("Authorization", "hunter2"),))
        assert await failure(front.url, network=network) == words.replace("{port}", str(front.port))
        assert len(front.requests) == 1  # another version of MQTT would be no help
    assert broker.connects == []


async def test_a_websocket_that_is_not_for_mqtt(broker: ScriptedBroker) -> None:
    """A server that agrees to no subprotocol, or to another, speaks something else, and hears nothing of us."""
    async with Front(broker, subprotocols=None) as front:
        words = await failure(front.url + "/chat", username="me", password=b"hunter2")
        assert words == "the server opens a WebSocket, but not for MQTT, at the path /chat"
        assert front.frames == []

    def agree(*more: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = asked.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            lines = ["HTTP/1.1 101 Welcome", "Upgrade: websocket", "Connection: Upgrade", *more]
            writer.write("\r\n".join([*lines, "", ""]).replace("KEY", accept_key(key)).encode())
            await reader.read()
            writer.close()

        return serve

    assert "no WebSocket is spoken there: missing Sec-WebSocket-Accept header" in await with_server(agree())
    accepted = "Sec-WebSocket-Accept: KEY"
    words = "the server opens a WebSocket at /mqtt, but not as it was asked to: unsupported subprotocol: chat"
    assert await with_server(agree(accepted, "Sec-WebSocket-Protocol: chat")) == words
    compressed = agree(accepted, "Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Extensions: permessage-deflate")
    assert (await with_server(compressed)).endswith("but not as it was asked to: no extensions supported")


async def with_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], timeout: float = 5.0
) -> str:
    """Return why there is no link with a server that does this."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with server:
        return await failure(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", connect_timeout=timeout)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x02\x00\x01", "no WebSocket is spoken there, nor HTTP; is it another port?"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000, "no WebSocket is spoken there, nor HTTP; is it another port?"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "no WebSocket is spoken there: unsupported protocol; expected HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "the server answers the request for a WebSocket at /mqtt with 200 OK"),
        (b"HTTP/1.1 403 \x1b[31m\r\n\r\n", "no WebSocket is spoken there: invalid HTTP reason phrase"),
        (b"HTTP/1.1 101", "the broker closed the connection instead of opening a WebSocket"),
        (b"", "the broker closed the connection instead of opening a WebSocket"),
    ],
)
async def test_another_protocol_is_recognised(answer: bytes, words: str) -> None:
    """Something that is no WebSocket server is told as such, whatever it says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()

    assert (await with_server(serve)).startswith(words)


async def test_a_plain_broker_on_the_port_is_recognised(broker: ScriptedBroker) -> None:
    """A broker that takes the request for nonsense closes, which is told with what may be wrong."""
    words = await failure(broker.url.replace("mqtt:", "ws:"))
    assert words.startswith("the broker closed the connection instead of opening a WebSocket; is it the port for one")


async def test_a_server_that_does_not_answer_ends_in_time() -> None:
    """A server that is mute to the request costs the timeout and no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert "does not answer the request for a WebSocket in time" in await with_server(serve, 0.2)


async def test_cancelling_leaves_nothing_open(broker: ScriptedBroker) -> None:
    """Whoever gives up while the server thinks leaves no socket and no task; the fixtures look for both."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        opening = asyncio.ensure_future(dial(url, Recorder()))
        await asyncio.wait_for(asked.wait(), 5)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.wait_for(gone.wait(), 5)


async def test_no_header_is_logged(
    broker: ScriptedBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no level does a log or a repr show what a header holds."""
    monkeypatch.setattr(logging.getLogger("websockets.server"), "disabled", True)  # the other side may say it
    network = Network(headers=(("Authorization", "hunter2"),))
    with caplog.at_level(logging.DEBUG):
        async with Front(broker) as front:
            await (await dial(front.url, Recorder(), network=network)).close()
        logging.getLogger("test").debug("this is heard")
    assert "this is heard" in caplog.text
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(Options("me", network=network))
