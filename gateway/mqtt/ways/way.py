"""One way to a broker, put together: a route, TLS if it is wanted, a WebSocket if it is wanted."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial

from gateway.mqtt import tls
from gateway.mqtt.address import Address, Proxy, Tls
from gateway.mqtt.aside import aside
from gateway.mqtt.errors import ConnectError
from gateway.mqtt.options import Options
from gateway.mqtt.ways.deadline import within
from gateway.mqtt.ways.names import Resolve, resolved
from gateway.mqtt.ways.proxy import Proxied
from gateway.mqtt.ways.routes import Route, Tcp, UnixSocket, reachable
from gateway.mqtt.ways.upgrade import Request
from gateway.mqtt.ways.websocket import WebSocket

# How long a TLS link may take to say goodbye before it is dropped.
_TLS_GOODBYE = 1.0


@dataclass(frozen=True, slots=True)
class Trust:
    """How TLS is spoken on the way."""

    context: ssl.SSLContext
    name: str  # that the certificate must carry


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a broker. `str()` names it in messages."""

    route: Route
    trust: Trust | None = None  # None: without TLS
    request: Request | None = None  # None: without a WebSocket

    def __str__(self) -> str:
        return str(self.route)

    async def open(self, protocol: asyncio.Protocol, until: float) -> None:
        """Open a transport and give it to the protocol, by the loop time `until`.

        Raises ConnectError, and leaves nothing open then, nor when it is cancelled.
        """
        if self.request is None:
            await self._open(protocol, until)
            return
        websocket = WebSocket(protocol, self.request)
        try:
            await self._open(websocket, until)
            async with within(until, "websocket", f"{self} does not answer the request for a WebSocket"):
                await websocket.opened()
        except BaseException:
            await websocket.dropped()
            raise

    async def _open(self, protocol: asyncio.Protocol, until: float) -> None:
        connected = await self.route.connected(until)
        loop = asyncio.get_running_loop()
        if self.trust is None:
            await loop.create_connection(lambda: protocol, sock=connected)
            return
        try:
            async with within(until, "tls", f"TLS: no answer from {self}"):
                await loop.create_connection(
                    lambda: protocol,
                    sock=connected,
                    ssl=self.trust.context,
                    server_hostname=self.trust.name,
                    ssl_shutdown_timeout=_TLS_GOODBYE,
                )
        except ConnectError:
            raise
        except (OSError, ValueError) as error:
            connected.close()  # for a name that cannot be one no transport was made, which would have closed it
            raise ConnectError(tls.failure_in_words(error, self.trust.name), kind="tls") from error


async def ways(address: Address, options: Options, until: float, resolve: Resolve | None = None) -> list[Way]:
    """Return the ways to an address, best first: resolve the name and read the certificates, both outside the loop.

    Raises ConnectError. `resolve` takes (host, port) and returns what `socket.getaddrinfo` does; it may block.
    """
    if address.scheme == "unix":
        return [Way(UnixSocket(address.path))]
    trust = await _trust(address, options.tls or Tls(), until) if address.tls else None
    request = Request.of(address, options) if address.websocket else None
    return [Way(route, trust, request) for route in await _routes(address, options, until, resolve)]


async def _trust(address: Address, wanted: Tls, until: float) -> Trust:
    async with within(until, "tls", "TLS: the certificates could not be read"):
        context = await aside(("tls", object()), partial(tls.context, wanted))
    return Trust(context, wanted.server_name or address.host)


async def _routes(address: Address, options: Options, until: float, resolve: Resolve | None) -> list[Route]:
    network = options.network
    host, port = address.host, address.port
    found: list[Route] = []
    if network.proxy is None:
        infos = await resolved(host, port, until, resolve)
        found += [Tcp(info[0], info[4], network) for info in infos if reachable(info[0], network)]
    else:
        proxy = Proxy.parse(network.proxy)
        targets = [host]
        if proxy.scheme == "socks5":
            targets = [info[4][0] for info in await resolved(host, port, until, resolve)]
        infos = await resolved(proxy.host, proxy.port, until, resolve)
        addresses = [(info[0], info[4]) for info in infos if reachable(info[0], network)]
        found += [Proxied(proxy, *at, target, port, network) for at in addresses for target in targets]
    if not found:
        where = host if network.proxy is None else f"the proxy {network.proxy}"
        words = f"bind: {where} has no address that can be reached from {network.bind}"
        raise ConnectError(words, kind="unreachable")
    return found
