"""A connected socket through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6), or SOCKS5 (RFC 1928) by python-socks."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from gateway.mqtt.address import Network, Proxy, bracketed
from gateway.mqtt.errors import ConnectError
from gateway.mqtt.ways.deadline import within
from gateway.mqtt.ways.routes import UNBOUND, Tcp, tune, unbound
from gateway.mqtt.ways.upgrade import printable

_MISSING = "SOCKS5 needs python-socks, which is not installed. Type: pip install 'sensor-gateway[proxy]'"

_STATUS = re.compile(rb"HTTP/1\.[01] +((\d{3})[^\r\n]*)")
_CREDENTIALS = 407  # Proxy Authentication Required
_LARGEST_ANSWER = 16 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Proxied:
    """One IP address of a proxy, and what it is asked to connect to: a name, or an IP address."""

    proxy: Proxy
    family: int
    target: tuple[Any, ...]  # of the proxy
    host: str
    port: int
    network: Network

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port} through {self.proxy}"

    async def connected(self, until: float) -> socket.socket:
        """Connect to the proxy, and through it. See `Route.connected`."""
        ask = self._by_http if self.proxy.scheme == "http" else self._by_socks
        try:
            host = self.host if self.host.isascii() else self.host.encode("idna").decode()
            async with within(until, "proxy", f"no answer from {self}"):
                return await ask(host, until)
        except ConnectError:
            raise
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"the proxy {self.proxy} failed: {_reason(error)}", kind="proxy") from error

    async def _by_http(self, host: str, until: float) -> socket.socket:
        """Ask with CONNECT.

        Not by python-socks (3.2), which takes whatever the first read brings for the whole answer: what comes of it
        later would be taken for the broker's.
        """
        where = f"{bracketed(host)}:{self.port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        user, password = self.network.proxy_username, self.network.proxy_password
        if user is not None:
            lines.append(f"Proxy-Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
        sock = await Tcp(self.family, self.target, self.network, f"the proxy {self.proxy}").connected(until)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                # Byte by byte, and so none too many: what follows the answer is the broker's.
                byte = await loop.sock_recv(sock, 1)
                answer += byte
                if not byte or len(answer) > _LARGEST_ANSWER:
                    break
            self._judge(answer)
        except BaseException:
            sock.close()
            raise
        return sock

    def _judge(self, answer: bytes) -> None:
        status = _STATUS.match(answer)
        if status is None or not answer.endswith(b"\r\n\r\n"):
            raise ConnectError(f"the proxy {self.proxy} does not answer as an HTTP proxy does", kind="proxy")
        code, said = int(status[2]), printable(status[1].decode(errors="replace"))
        if code == _CREDENTIALS:
            words = f"the proxy {self.proxy} wants other credentials ({said}); see proxy_username and proxy_password"
            raise ConnectError(words, kind="proxy")
        if not 200 <= code < 300:
            raise self._refused(said)

    async def _by_socks(self, host: str, until: float) -> socket.socket:
        try:
            from python_socks import ProxyConnectionError, ProxyError, ProxyType
            from python_socks.async_.asyncio import Proxy as Library
        except ImportError:
            raise ConnectError(_MISSING, kind="proxy") from None
        user, password = self.network.proxy_username, self.network.proxy_password
        library = Library(ProxyType.SOCKS5, self.target[0], self.proxy.port, user, password, rdns=True)
        bind = self.network.bind
        # The deadline is ours; the library's own comes after it.
        patience = until - asyncio.get_running_loop().time() + 60
        try:
            local = None if bind is None else (bind, 0)
            sock = await library.connect(host, self.port, timeout=patience, local_addr=local)
        except ProxyConnectionError as error:
            if bind is not None and error.errno in UNBOUND:
                raise unbound(bind, error) from error
            raise ConnectError(f"the proxy {self.proxy}: {_reason(error)}", kind="unreachable") from error
        except ProxyError as error:
            raise self._refused(printable(str(error))) from error
        tune(sock, self.network)
        return sock

    def _refused(self, said: str) -> ConnectError:
        where = f"{bracketed(self.host)}:{self.port}"
        return ConnectError(f"the proxy {self.proxy} does not connect to {where}: {said}", kind="proxy")


def _reason(error: Exception) -> str:
    """Return the system's words for an error, without what the library puts around them."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else printable(str(error))
