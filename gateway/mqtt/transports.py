"""How bytes reach a broker: the ways to an address (TCP, TLS, unix socket), each of which opens an asyncio transport.

Whatever comes later, such as a WebSocket or a proxy, is one more `Way`: it gives a protocol a transport that can write,
pause and abort, and the bytes of MQTT.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from gateway.mqtt import tls
from gateway.mqtt.address import Address, Tls
from gateway.mqtt.aside import aside
from gateway.mqtt.errors import ConnectError, Kind

Resolve = Callable[[str, int], list[tuple[Any, ...]]]

# How long a TLS link may take to say goodbye before it is dropped.
_TLS_GOODBYE = 1.0


class Way(Protocol):
    """One way to a broker. `str()` names it in messages."""

    async def open(self, protocol: asyncio.Protocol, until: float) -> None:
        """Open a transport and give it to the protocol, by the loop time `until`.

        Raises ConnectError, and leaves nothing open then, nor when it is cancelled.
        """


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return self.path

    async def open(self, protocol: asyncio.Protocol, until: float) -> None:
        """Connect. See `Way.open`."""
        async with within(until, "unreachable", f"no answer from {self}"):
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: protocol, self.path)
            except OSError as error:
                raise _unreachable(self.path, error) from error


@dataclass(frozen=True, slots=True)
class Tcp:
    """One IP address and port, with or without TLS."""

    family: int
    target: tuple[Any, ...]
    context: ssl.SSLContext | None = None
    name: str = ""  # that the certificate must carry

    def __str__(self) -> str:
        host, port = self.target[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def open(self, protocol: asyncio.Protocol, until: float) -> None:
        """Connect, and shake hands. See `Way.open`."""
        loop = asyncio.get_running_loop()
        connected = await self._connected(until)
        try:
            async with within(until, "tls", f"TLS: no answer from {self}"):
                if self.context is None:
                    await loop.create_connection(lambda: protocol, sock=connected)
                else:
                    await loop.create_connection(
                        lambda: protocol,
                        sock=connected,
                        ssl=self.context,
                        server_hostname=self.name,
                        ssl_shutdown_timeout=_TLS_GOODBYE,
                    )
        except ConnectError:
            raise
        except (OSError, ValueError) as error:
            connected.close()  # for a name that cannot be one no transport was made, which would have closed it
            raise ConnectError(tls.failure_in_words(error, self.name), kind="tls") from error

    async def _connected(self, until: float) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async with within(until, "unreachable", f"no answer from {self}"):
                try:
                    await asyncio.get_running_loop().sock_connect(sock, self.target)
                except OSError as error:
                    raise _unreachable(str(self), error) from error
        except BaseException:
            sock.close()
            raise
        return sock


async def ways(address: Address, trust: Tls | None, until: float, resolve: Resolve | None = None) -> list[Way]:
    """Return the ways to an address, best first: resolve the name and read the certificates, both outside the loop.

    Raises ConnectError. `resolve` takes (host, port) and returns what `socket.getaddrinfo` does; it may block.
    """
    if address.scheme == "unix":
        return [UnixSocket(address.path)]
    context = None
    if address.scheme == "mqtts":
        async with within(until, "tls", "TLS: the certificates could not be read"):
            context = await aside(("tls", object()), partial(tls.context, trust or Tls()))
    name = (trust.server_name if trust else None) or address.host
    infos = await _resolved(address, until, resolve or _getaddrinfo)
    return [Tcp(info[0], info[4], context, name if context else "") for info in infos]


async def _resolved(address: Address, until: float, resolve: Resolve) -> list[tuple[Any, ...]]:
    host, port = address.host, address.port
    try:
        return _getaddrinfo(host, port, socket.AI_NUMERICHOST)
    except OSError:
        pass  # a name, then
    async with within(until, "name", f"the name {host} could not be resolved"):
        try:
            infos = await aside((resolve, host, port), partial(resolve, host, port))
        except (OSError, UnicodeError) as error:
            words = str(getattr(error, "strerror", None) or error).lower()
            raise ConnectError(f"the name {host} cannot be resolved: {words}", kind="name") from error
    if not infos:
        raise ConnectError(f"the name {host} has no address", kind="name")
    return infos


def _getaddrinfo(host: str, port: int, flags: int = 0) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


def _unreachable(where: str, error: OSError) -> ConnectError:
    words = (
        "connection refused" if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error)).lower()
    )
    return ConnectError(f"{where}: {words}", kind="unreachable")


@asynccontextmanager
async def within(until: float, kind: Kind, words: str) -> AsyncIterator[None]:
    """Give the body until the loop time `until`, then raise a ConnectError of this kind with these words."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise ConnectError(f"{words} within {max(0.0, until - began):.1f} s", kind=kind) from None
