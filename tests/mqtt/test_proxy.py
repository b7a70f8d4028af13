"""Through a proxy everything is as it is without, and what goes wrong there is told as that."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.mqtt import Address, ConnectError, Network, Options, Tls, connect
from tests.mqtt.certificates import Authority, server
from tests.mqtt.proxies import HttpProxy, Proxy, Socks5Proxy
from tests.mqtt.recorder import Recorder, batch
from tests.mqtt.websocket_server import Front
from tests.scripted_broker import ScriptedBroker


def unresolved(host: str, port: int) -> list[tuple[Any, ...]]:
    """Resolve no name."""
    raise AssertionError(f"{host} was resolved here")


@pytest.fixture(params=[HttpProxy, Socks5Proxy])
async def proxy(request: pytest.FixtureRequest, broker: ScriptedBroker) -> AsyncIterator[Proxy]:
    """A proxy of each kind that leads to the broker."""
    async with request.param(broker.port) as made:
        yield made


def through(proxy: Proxy, **more: Any) -> Network:
    """Return a network behind a proxy that resolves names itself."""
    return Network(proxy=proxy.url.replace("socks5:", "socks5h:"), **more)


async def failure(proxy: Proxy, timeout: float = 5.0, **more: Any) -> str:
    """Return why no link could be made, which must be the proxy's fault."""
    options = Options("me", network=through(proxy, **more), connect_timeout=timeout)
    with pytest.raises(ConnectError) as caught:
        await connect(Address("mqtt", "broker.invalid", 1883), options, Recorder(), resolve=unresolved)
    assert caught.value.kind in ("proxy", "unreachable")
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


async def test_a_link_through_a_proxy(broker: ScriptedBroker, proxy: Proxy) -> None:
    """The proxy is asked for the broker by name, and carries what is sent."""
    recorder = Recorder()
    options = Options("me", network=through(proxy))
    link = await connect(Address("mqtt", "broker.invalid", 1883), options, recorder, resolve=unresolved)
    link.publish(batch(100))
    await recorder.until(lambda: len(recorder.tokens) == 100)
    await link.close()
    assert proxy.asked == [("broker.invalid", 1883)]
    assert (len(broker.disconnects), broker.wills) == (1, [])


async def test_who_resolves_the_name(broker: ScriptedBroker) -> None:
    """socks5 resolves here, socks5h and http there."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", port))]

    async with Socks5Proxy(broker.port) as proxy:
        for url in (proxy.url, proxy.url.replace("socks5", "socks5h")):
            options = Options("me", network=Network(proxy=url))
            await (await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=resolve)).close()
    assert proxy.asked == [("192.0.2.7", 1883), ("a.invalid", 1883)]


async def test_credentials_for_the_proxy(broker: ScriptedBroker, proxy: Proxy) -> None:
    """User name and password are for the proxy, and are told to nobody else; wrong ones are told as that."""
    proxy.credentials = ("me", "hunter2")
    options = Options("me", network=through(proxy, proxy_username="me", proxy_password="hunter2"))
    await (await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=unresolved)).close()
    assert "hunter2" not in repr(options)
    words = await failure(proxy, proxy_username="me", proxy_password="hunter22")
    assert f"the proxy {through(proxy).proxy} " in words
    assert await failure(proxy)
    if isinstance(proxy, HttpProxy):
        assert "wants other credentials (407 Word); see proxy_username and proxy_password" in words
    else:
        assert "Username and password authentication failure" in words
    assert len(broker.connects) == 1


async def test_tls_through_a_proxy(authority: Authority, certificate: tuple[Path, Path]) -> None:
    """The certificate is checked for the broker's name, not for the proxy's, and the proxy sees only TLS."""
    async with ScriptedBroker(tls=server(certificate)) as broker, HttpProxy(broker.port) as proxy:
        options = Options("me", network=through(proxy), tls=Tls(ca=str(authority.ca)))
        link = await connect(Address("mqtts", "localhost", 8883), options, Recorder(), resolve=unresolved)
        assert link.transport is not None
        assert isinstance(link.transport.get_extra_info("ssl_object"), ssl.SSLObject)
        await link.close()
        with pytest.raises(ConnectError, match=r"not for the name a\.invalid"):
            await connect(Address("mqtts", "a.invalid", 8883), options, Recorder(), resolve=unresolved)


async def test_a_websocket_through_a_proxy(broker: ScriptedBroker) -> None:
    """The request for a WebSocket goes to the server behind the proxy."""
    async with Front(broker) as front, Socks5Proxy(front.port) as proxy:
        options = Options("me", network=through(proxy))
        await (await connect(Address.parse("ws://a.invalid/x"), options, Recorder(), resolve=unresolved)).close()
        assert [request.path for request in front.requests] == ["/x"]
        assert proxy.asked == [("a.invalid", 80)]


async def test_a_proxy_that_refuses(proxy: Proxy) -> None:
    """Why the proxy does not connect is told in its words."""
    proxy.refuse = 502 if isinstance(proxy, HttpProxy) else 5
    said = "502 Word" if isinstance(proxy, HttpProxy) else "Connection refused by destination host"
    assert await failure(proxy) == f"the proxy {through(proxy).proxy} does not connect to broker.invalid:1883: {said}"


@pytest.mark.parametrize(
    "nonsense", [b"\x00", b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n\r\n", b"\x05\x07", b"HTTP/1.1 200 OK\r\n"]
)
async def test_what_is_no_proxy(proxy: Proxy, nonsense: bytes) -> None:
    """An answer that is none is told as the proxy's fault, and nothing is left open."""
    proxy.nonsense = nonsense
    assert (await failure(proxy)).startswith(f"the proxy {through(proxy).proxy} ")


async def test_a_proxy_that_is_not_there(proxy: Proxy) -> None:
    """A proxy that does not listen is told with its URL."""
    await proxy.__aexit__()
    assert await failure(proxy) == f"the proxy {through(proxy).proxy}: connection refused"


async def test_a_mute_proxy_ends_in_time(proxy: Proxy) -> None:
    """A proxy that accepts and says nothing costs the timeout and no more."""
    proxy.mute = True
    assert f"no answer from broker.invalid:1883 through {through(proxy).proxy} in time" in await failure(proxy, 0.2)


async def test_the_name_of_a_proxy_is_resolved_aside(broker: ScriptedBroker, proxy: Proxy) -> None:
    """The proxy's name is looked up as any other, and all its addresses are tried."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        assert host == "proxy.invalid"
        targets = (("127.0.0.2", 1), ("127.0.0.1", port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", target) for target in targets]

    network = Network(proxy=f"{proxy.scheme.replace('socks5', 'socks5h')}://proxy.invalid:{proxy.port}")
    options = Options("me", network=network)
    await (await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=resolve)).close()
    assert proxy.asked == [("a.invalid", 1883)]


async def test_the_bound_address_is_the_way_to_the_proxy(broker: ScriptedBroker, proxy: Proxy) -> None:
    """`bind` is for the connection that leaves this machine; one that cannot be had is told as that."""
    options = Options("me", network=through(proxy, bind="127.0.0.3", user_timeout=7.0))
    link = await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=unresolved)
    assert proxy.peers == ["127.0.0.3"]
    assert link.transport is not None
    sock = link.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    await link.close()
    options = Options("me", network=through(proxy, bind="192.0.2.77"))
    with pytest.raises(ConnectError, match=r"^bind: 192\.0\.2\.77 is not an address of this machine$"):
        await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=unresolved)


async def test_a_missing_library_is_told_with_what_to_type(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has installed the gateway without the extra learns how to get it."""
    monkeypatch.setitem(sys.modules, "python_socks", None)
    async with Socks5Proxy(broker.port) as proxy:
        assert await failure(proxy) == (
            "SOCKS5 needs python-socks, which is not installed. Type: pip install 'sensor-gateway[proxy]'"
        )


@pytest.mark.parametrize("size", [1, 10, 40])
async def test_an_answer_may_come_in_pieces(broker: ScriptedBroker, size: int) -> None:
    """Nothing of the proxy's answer is taken for the broker's, however slowly it comes."""
    async with HttpProxy(broker.port) as proxy:
        whole = b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n"
        proxy.answer = tuple(whole[at : at + size] for at in range(0, len(whole), size))
        options = Options("me", network=through(proxy))
        await (await connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=unresolved)).close()
    assert len(broker.connects) == 1


async def test_what_follows_the_answer_is_the_brokers(broker: ScriptedBroker) -> None:
    """Not one byte too many is taken for the proxy's answer."""
    async with HttpProxy(broker.port) as proxy:
        proxy.answer = (b"HTTP/1.1 200 OK\r\n\r\n\x00",)
        with pytest.raises(ConnectError, match="the answer to CONNECT is not MQTT: no packet begins with 0x00"):
            await connect(Address("mqtt", "a.invalid", 1), Options("me", network=through(proxy)), Recorder())


async def test_an_answer_without_an_end_is_not_waited_for(broker: ScriptedBroker) -> None:
    """A proxy that talks and talks costs no memory."""
    async with HttpProxy(broker.port) as proxy:
        proxy.nonsense = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000
        assert "does not answer as an HTTP proxy does" in await failure(proxy)


async def test_cancelling_leaves_nothing_open(proxy: Proxy) -> None:
    """Whoever gives up while the proxy thinks leaves no socket and no task; the fixtures look for both."""
    proxy.mute = True
    options = Options("me", network=through(proxy))
    opening = asyncio.ensure_future(
        connect(Address("mqtt", "a.invalid", 1883), options, Recorder(), resolve=unresolved)
    )
    async with asyncio.timeout(5):
        while not proxy.peers:
            await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
