"""What TCP is told, where a link comes from, which address is next, and what URLs mean."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt import Address, ConnectError, Network, Options, connect
from gateway.mqtt.address import Proxy
from gateway.mqtt.ways.names import in_turn, resolved
from tests.mqtt.recorder import Recorder
from tests.scripted_broker import ScriptedBroker


async def sockopts(broker: ScriptedBroker, network: Network, *wanted: tuple[int, int]) -> list[int]:
    """Return what a link's socket says to these options."""
    link = await connect(Address.parse(broker.url), Options("me", network=network), Recorder())
    assert link.transport is not None
    sock = link.transport.get_extra_info("socket")
    found = [sock.getsockopt(*one) for one in wanted]
    await link.close()
    return found


async def test_what_tcp_is_told(broker: ScriptedBroker) -> None:
    """Small packets go at once and the kernel looks after the link, unless one says otherwise."""
    options = (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )
    assert await sockopts(broker, Network(), *options) == [1, 1, 0]
    other = Network(nodelay=False, keepalive=False, user_timeout=12.5)
    assert await sockopts(broker, other, *options) == [0, 0, 12_500]


async def test_a_link_comes_from_the_bound_address(broker: ScriptedBroker) -> None:
    """A machine with several networks says by which one it goes."""
    options = Options("me", network=Network(bind="127.0.0.5"))
    link = await connect(Address.parse(broker.url), options, Recorder())
    assert link.transport is not None
    assert link.transport.get_extra_info("sockname")[0] == "127.0.0.5"
    await link.close()


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("192.0.2.77", "bind: 192.0.2.77 is not an address of this machine"),
        ("::1", "bind: 127.0.0.1 has no address that can be reached from ::1"),
    ],
)
async def test_an_address_that_cannot_be_bound_to(broker: ScriptedBroker, bind: str, words: str) -> None:
    """An address of another machine, or of another family than the broker's, is told as that."""
    with pytest.raises(ConnectError) as caught:
        await connect(Address.parse(broker.url), Options("me", network=Network(bind=bind)), Recorder())
    assert (str(caught.value), caught.value.kind) == (words, "unreachable")


async def test_a_bound_address_leaves_out_the_other_family(broker: ScriptedBroker) -> None:
    """Of a name with addresses of both families only those are tried that can be reached."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0))
        return [six, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", broker.port))]

    options = Options("me", network=Network(bind="127.0.0.1"))
    link = await connect(Address("mqtt", "a.invalid", 1), options, Recorder(), resolve=resolve)
    await link.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"user_timeout": 0.0}, "user_timeout must be from 1 ms to 24 days, not 0.0 s"),
        ({"bind": "eth0"}, "bind must be an IP address of this machine, not 'eth0'"),
        ({"proxy": "ftp://x:1"}, "proxy: a proxy is written as http://host:port, socks5://host:port or socks5h://"),
        ({"proxy": "http://x"}, "proxy: write http://x:PORT"),
        ({"proxy": "http://a:hunter2@x:1"}, "proxy: no user name or password in the URL; use proxy_username"),
        ({"proxy_username": "me"}, "proxy_username needs proxy beside it"),
        ({"proxy": "http://x:1", "proxy_username": "me"}, "proxy_username needs proxy_password beside it"),
        ({"proxy": "http://x:1", "proxy_password": "hunter2"}, "proxy_password needs proxy_username beside it"),
        (
            {"proxy": "http://x:1", "proxy_username": "a:b", "proxy_password": "hunter2"},
            'proxy_username must not be empty or have a ":" in it',
        ),
        ({"headers": (("X y", "1"),)}, "headers: 'X y' cannot be the name of a header here"),
        ({"headers": (("Sec-WebSocket-Key", "1"),)}, "headers: 'Sec-WebSocket-Key' cannot be the name of a header"),
        ({"headers": (("X", "hunter2\r\nY: 2"),)}, "headers: the value of X must be printable ASCII characters"),
    ],
)
def test_what_the_network_cannot_be_told(wrong: dict[str, Any], words: str) -> None:
    """A wrong option is refused when it is given, with its name and what it may be, and without a secret."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared below
        Network(**wrong)
    assert str(caught.value).startswith(words)
    assert "hunter2" not in str(caught.value)


# -- addresses of a name

INFOS = st.lists(st.tuples(st.sampled_from([socket.AF_INET, socket.AF_INET6]), st.integers(0, 99)))


@given(INFOS)
def test_families_take_turns(infos: list[tuple[Any, ...]]) -> None:
    """No address is lost, the best stays first, each family keeps its order, and the second try is the other one."""
    order = in_turn(infos)
    assert sorted(order) == sorted(infos)
    assert order[:1] == infos[:1]
    for family in (socket.AF_INET, socket.AF_INET6):
        assert [one for one in order if one[0] == family] == [one for one in infos if one[0] == family]
    if len({one[0] for one in infos}) == 2:
        assert order[0][0] != order[1][0]


async def test_the_second_address_is_of_the_other_family() -> None:
    """A name with many addresses of IPv6, where that leads nowhere, is tried over IPv4 at the second attempt."""
    six = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"::{number}", 1, 0, 0)) for number in range(3)]
    four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    until = asyncio.get_running_loop().time() + 5
    assert await resolved("a.invalid", 1, until, lambda host, port: [*six, four]) == [six[0], four, *six[1:]]


async def test_an_address_is_not_looked_up() -> None:
    """An IP address needs no name server."""

    def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
        raise AssertionError(host)

    until = asyncio.get_running_loop().time() + 5
    for host in ("127.0.0.1", "::1"):
        ((*_, target),) = await resolved(host, 1883, until, resolve)
        assert target[:2] == (host, 1883)


# -- URLs


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker.example", Address("mqtt", "broker.example", 1883)),
        ("mqtts://broker.example/", Address("mqtts", "broker.example", 8883)),
        ("ws://broker.example", Address("ws", "broker.example", 80, "/mqtt")),
        ("wss://broker.example", Address("wss", "broker.example", 443, "/mqtt")),
        ("wss://broker.example/", Address("wss", "broker.example", 443, "/")),
        ("WS://[::1]:8080/a%20b/c", Address("ws", "::1", 8080, "/a%20b/c")),
        ("unix:///run/m.sock", Address("unix", path="/run/m.sock")),
    ],
)
def test_what_a_url_means(url: str, address: Address) -> None:
    """Each scheme has its port, and a WebSocket its path; what is written from an address is read as the same."""
    assert Address.parse(url) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ws://broker.example/x?token=hunter2", "no query in the URL, which is shown in logs"),
        ("wss://me:hunter2@broker.example", "no user name or password in the URL"),
        ("ws://broker.example/x#y", "nothing may follow the path; write ws://broker.example:80/x"),
        ("ws://broker.example/ä", "a path with other than ASCII characters must be percent-encoded"),
        ("mqtt://broker.example/mqtt", "nothing may follow the port; write mqtt://broker.example:1883"),
        ("http://broker.example", "unknown scheme http://; use mqtt, mqtts, ws, wss or unix"),
    ],
)
def test_what_is_no_url(url: str, words: str) -> None:
    """What is wrong with a URL is told with what to write instead, and without what could be a secret."""
    with pytest.raises(ValueError, match=r"URL|write|scheme|path") as caught:
        Address.parse(url)
    assert str(caught.value).startswith(words)
    assert "hunter2" not in str(caught.value)


def test_what_an_address_knows() -> None:
    """TLS, the WebSocket and the longest silence follow from the scheme."""
    known = {
        scheme: (address.tls, address.websocket, address.keep_alive_at_most)
        for scheme in ("mqtt", "mqtts", "ws", "wss")
        if (address := Address.parse(f"{scheme}://broker.example"))
    }
    assert known == {
        "mqtt": (False, False, None),
        "mqtts": (True, False, None),
        "ws": (False, True, 40.0),
        "wss": (True, True, 40.0),
    }


def test_the_url_of_a_proxy() -> None:
    """A proxy is written as it is read."""
    for url in ("http://proxy.example:3128", "socks5://[::1]:1080", "socks5h://127.0.0.1:1080"):
        assert str(Proxy.parse(url)) == url
