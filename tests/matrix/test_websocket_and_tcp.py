"""WebSocket and TCP: every way to a real broker carries the same, in every version of MQTT."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.mqtt import Address, ConnectError, Connection, Network, Options, connect
from tests.interop.brokers import EveryListener
from tests.interop.peer import Heard, Peer
from tests.interop.ways import Way
from tests.mqtt.mosquitto import Mosquitto
from tests.mqtt.proxies import HttpProxy, Socks5Proxy
from tests.mqtt.recorder import Recorder

pytestmark = pytest.mark.system
PROTOCOLS = pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])

# A mosquitto of 2.0 sends what is long over a WebSocket in pieces of 4 KiB, ten a second.
PAYLOADS = [b"", b"\x00", bytes(range(256)), bytes(20_000), b"the last one"]


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EveryListener]:
    """A mosquitto with every listener."""
    with EveryListener(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@asynccontextmanager
async def link(
    url: str, recorder: Recorder | None = None, network: Network | None = None, **options: object
) -> AsyncIterator[Connection]:
    """Open a link, and end it in order."""
    given = Options("ours", network=network or Network(), **options)  # type: ignore[arg-type]
    made = await connect(Address.parse(url), given, recorder or Recorder())
    try:
        yield made
    finally:
        await made.close()


async def carries(made: Connection, recorder: Recorder, peer: Peer) -> None:
    """Check that messages of any size go there and come back, in order."""
    await peer.subscribe("there", 1)
    assert await made.subscribe([("back", 1)]) == [1]
    made.publish([(b"there", payload, number) for number, payload in enumerate(PAYLOADS)])
    assert [await peer.next() for _ in PAYLOADS] == [Heard("there", payload, 1, False) for payload in PAYLOADS]
    await recorder.until(lambda: len(recorder.tokens) == len(PAYLOADS))
    for payload in PAYLOADS:
        await peer.publish("back", payload, 1)
    await recorder.until(lambda: len(recorder.messages) == len(PAYLOADS))
    assert [bytes(message.payload) for message in recorder.messages] == PAYLOADS


@PROTOCOLS
@pytest.mark.parametrize("scheme", ["ws", "wss", "tcp"])
async def test_messages_both_ways(mosquitto: EveryListener, scheme: str, protocol: str) -> None:
    """In a WebSocket, with and without TLS, everything is as it is over TCP."""
    way, recorder = mosquitto.ways[scheme], Recorder()
    async with (
        link(way.url, recorder, protocol=protocol, tls=way.tls) as made,
        Peer(mosquitto.ways["tcp"], "3.1.1") as peer,
    ):
        assert made.protocol == protocol
        await carries(made, recorder, peer)


async def test_a_unix_socket(tmp_path: Path) -> None:
    """A broker on this machine is reached without any network."""
    recorder = Recorder()
    with Mosquitto(tmp_path, "listener 0 127.0.0.1", unix=True) as broker:
        async with link(broker.url, recorder) as made:
            made.publish([(b"t", payload, number) for number, payload in enumerate(PAYLOADS)])
            await recorder.until(lambda: len(recorder.tokens) == len(PAYLOADS))


@pytest.mark.parametrize("scheme", ["tcp", "tls", "wss"])
@pytest.mark.parametrize("kind", [HttpProxy, Socks5Proxy])
async def test_through_a_proxy(mosquitto: EveryListener, kind: type[HttpProxy | Socks5Proxy], scheme: str) -> None:
    """A proxy carries plain MQTT, TLS and WebSockets, and its credentials go to it alone."""
    way, recorder = mosquitto.ways[scheme], Recorder()
    async with kind(way.port) as proxy:
        proxy.credentials = ("me", "hunter2")
        network = Network(proxy=proxy.url, proxy_username="me", proxy_password="hunter2", bind="127.0.0.4")
        async with (
            link(way.url, recorder, network, tls=way.tls) as made,
            Peer(mosquitto.ways["tcp"], "5") as peer,
        ):
            await carries(made, recorder, peer)
        assert proxy.asked == [("127.0.0.1", way.port)]
        assert proxy.peers == ["127.0.0.4"]


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
async def test_the_options_of_tcp(mosquitto: EveryListener, scheme: str) -> None:
    """TCP_NODELAY, keep-alive, TCP_USER_TIMEOUT and the bound address hold on every way over TCP."""
    network = Network(bind="127.0.0.6", user_timeout=20.0)
    async with link(mosquitto.ways[scheme].url, network=network) as made:
        assert made.transport is not None
        sock = made.transport.get_extra_info("socket")
        assert sock.getsockname()[0] == "127.0.0.6"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000


async def test_the_wrong_listener_is_told(mosquitto: EveryListener) -> None:
    """A WebSocket to the port of plain MQTT, and MQTT to the port of WebSockets, are told at once, and as that."""
    plain, websocket = mosquitto.ways["tcp"], mosquitto.ways["ws"]
    for way, kinds in ((Way("ws", plain.port), ("websocket",)), (Way("mqtt", websocket.port), ("closed", "protocol"))):
        with pytest.raises(ConnectError) as caught:
            async with link(way.url, connect_timeout=20.0):
                pass
        assert caught.value.kind in kinds


async def test_the_broker_hears_a_short_keep_alive_in_a_websocket(tmp_path: Path) -> None:
    """Whatever is asked for, a WebSocket is not left silent for 45 s."""
    async with asyncio.timeout(20):
        with EveryListener(tmp_path) as broker:
            for scheme in ("ws", "tcp"):
                async with link(broker.ways[scheme].url, keep_alive=600.0, protocol="3.1.1") as made:
                    assert made.limits.keep_alive == {"ws": 40.0, "tcp": 600.0}[scheme]
