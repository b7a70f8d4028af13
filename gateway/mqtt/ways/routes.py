"""A connected socket: straight to the broker, over TCP or in the file system."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Protocol

from gateway.mqtt.address import Network, bracketed
from gateway.mqtt.errors import ConnectError
from gateway.mqtt.ways.deadline import within

# What binding to an address that cannot be had ends in, and connecting does not.
UNBOUND = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


class Route(Protocol):
    """One route to a broker. `str()` names it in messages."""

    async def connected(self, until: float) -> socket.socket:
        """Return a socket that is connected, by the loop time `until`. Raises ConnectError, and leaves nothing open."""


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return self.path

    async def connected(self, until: float) -> socket.socket:
        """Connect. See `Route.connected`."""
        return await _connect(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self.path, self.path, until)


@dataclass(frozen=True, slots=True)
class Tcp:
    """One IP address and port."""

    family: int
    target: tuple[Any, ...]
    network: Network
    name: str = ""  # in messages; the default is address and port

    def __str__(self) -> str:
        host, port = self.target[:2]
        return self.name or f"{bracketed(host)}:{port}"

    async def connected(self, until: float) -> socket.socket:
        """Connect. See `Route.connected`."""
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            tune(sock, self.network)
            if self.network.bind is not None:
                _bind(sock, self.network.bind)
        except BaseException:
            sock.close()
            raise
        return await _connect(sock, self.target, str(self), until)


def tune(sock: socket.socket, network: Network) -> None:
    """Set what the network is to do with this TCP socket."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, network.nodelay)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, network.keepalive)
    if network.user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(network.user_timeout * 1000))


def reachable(family: int, network: Network) -> bool:
    """Return whether an address of this family can be reached from the one that the socket is to be bound to."""
    if network.bind is None:
        return True
    return family == (socket.AF_INET if ip_address(network.bind).version == 4 else socket.AF_INET6)


def unreachable(where: str, error: OSError) -> ConnectError:
    """Return what is told when nobody answers there."""
    words = (
        "connection refused" if isinstance(error, ConnectionRefusedError) else (error.strerror or str(error)).lower()
    )
    return ConnectError(f"{where}: {words}", kind="unreachable")


def unbound(bind: str, error: OSError) -> ConnectError:
    """Return what is told when the local address cannot be had."""
    words = (
        "is not an address of this machine"
        if error.errno == errno.EADDRNOTAVAIL
        else f"cannot be bound to: {(error.strerror or str(error)).lower()}"
    )
    return ConnectError(f"bind: {bind} {words}", kind="unreachable")


def _bind(sock: socket.socket, bind: str) -> None:
    try:
        sock.bind((bind, 0))
    except OSError as error:
        raise unbound(bind, error) from error


async def _connect(sock: socket.socket, target: Any, where: str, until: float) -> socket.socket:
    try:
        sock.setblocking(False)
        async with within(until, "unreachable", f"no answer from {where}"):
            try:
                await asyncio.get_running_loop().sock_connect(sock, target)
            except OSError as error:
                raise unreachable(where, error) from error
    except BaseException:
        sock.close()
        raise
    return sock
