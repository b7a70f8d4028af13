"""Serial ports behind a network: a server that passes plain bytes, or one that speaks RFC 2217."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from adapters.ports.port import Line, Port
from adapters.ports.rfc2217 import Rfc2217
from adapters.ports.serial import SerialPort
from gateway import DeviceError

DEAD = 30
"""Seconds after which a server that answers nothing is gone, although nobody said so."""


def check_port(port: str) -> None:
    """Raise ValueError with the reason if `port` is neither a path nor the address of a network serial server."""
    scheme, separator, _ = port.partition("://")
    if not separator and not port.startswith("/"):
        known = "; sensor-gateway ports lists those of this machine"
        raise ValueError("must be a whole path" + (f', such as "/dev/{port}"' if port.startswith("tty") else known))
    if not separator:
        return
    if scheme not in ("socket", "rfc2217"):
        raise ValueError('must be a path, "socket://HOST:PORT" or "rfc2217://HOST:PORT"')
    try:
        parts = urlsplit(port)
        complete = bool(parts.hostname) and bool(parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(f'must name a host and a port from 1 to 65535, as "{scheme}://192.168.1.5:4001"')
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        raise ValueError(f'must be only "{scheme}://HOST:PORT"')


def port_at(port: str, line: Line) -> Port:
    """Return the port, not yet open, that a path or an address names."""
    scheme, separator, _ = port.partition("://")
    if not separator:
        return SerialPort(port, line)
    return (SocketPort if scheme == "socket" else Rfc2217Port)(port, line)


class SocketPort(Port):
    """A server that passes bytes as they are, such as ser2net in raw mode; it sets the line itself."""

    lost = "the serial server hung up"
    patience = 5.0  # seconds for a server to take a connection, and then to agree to the settings of the line

    _port: socket.socket | None

    def _open(self) -> socket.socket:
        parts = urlsplit(self.path)
        try:
            connection = socket.create_connection((parts.hostname or "", parts.port or 0), self.patience)
        except TimeoutError:
            raise DeviceError(f"cannot open {self.path}: no answer within {self.patience:g} s") from None
        except OSError as error:
            raise DeviceError(f"cannot open {self.path}: {error.strerror or error}") from error
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD // 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD // 6)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD * 1000)
        return connection


class Rfc2217Port(SocketPort):
    """A server that sets its line as it is told: speed, parity, stop bits, DTR, RTS; never RS-485.

    What comes before the line is set is thrown away: it was read at another speed.
    """

    def __init__(self, path: str, line: Line) -> None:
        super().__init__(path, line)
        self._protocol = Rfc2217(line)
        self._begun = False

    async def _begin(self) -> None:
        self._protocol, self._begun = Rfc2217(self.line), False
        try:
            async with asyncio.timeout(self.patience):
                await self._write(self._protocol.opening(), self.patience)
                await self._until(lambda _: self._protocol.is_ready or None)
        except TimeoutError:
            words = f"the server did not agree to {self.line} within {self.patience:g} s. Does it speak RFC 2217?"
            raise DeviceError(f"cannot open {self.path}: {words}") from None
        self._begun = True

    def _incoming(self, chunk: bytes) -> bytes:
        try:
            data = self._protocol.feed(chunk)
        except ValueError as error:
            raise DeviceError(f"{self.path}: {error}") from None
        if reply := self._protocol.replies():
            with suppress(BlockingIOError):  # a few bytes, for which there is room unless the server takes nothing
                os.write(self._fd, reply)
        return data if self._begun else chunk

    def _outgoing(self, data: bytes) -> bytes:
        return self._protocol.escape(data)
