"""A connected socket through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6) or SOCKS5 (RFC 1928), by python-socks."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.mqtt.address import Network, Proxy, bracketed
from gateway.mqtt.errors import ConnectError
from gateway.mqtt.ways.deadline import within
from gateway.mqtt.ways.routes import UNBOUND, tune, unbound
from gateway.mqtt.ways.upgrade import printable

if TYPE_CHECKING:
    from python_socks import ProxyError

_MISSING = "a proxy needs python-socks, which is not installed. Type: pip install 'sensor-gateway[proxy]'"
_CREDENTIALS = 407  # HTTP: Proxy Authentication Required


@dataclass(frozen=True, slots=True)
class Proxied:
    """One IP address of a proxy, and what it is asked to connect to: a name, or an IP address."""

    proxy: Proxy
    address: str  # of the proxy
    host: str
    port: int
    network: Network

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port} through {self.proxy}"

    async def connected(self, until: float) -> socket.socket:
        """Connect to the proxy, and through it. See `Route.connected`."""
        try:
            from python_socks import ProxyConnectionError, ProxyError, ProxyType
            from python_socks.async_.asyncio import Proxy as Library
        except ImportError:
            raise ConnectError(_MISSING, kind="proxy") from None
        kind = ProxyType.HTTP if self.proxy.scheme == "http" else ProxyType.SOCKS5
        credentials = (self.network.proxy_username, self.network.proxy_password)
        library = Library(kind, self.address, self.proxy.port, *credentials, rdns=True)
        local = None if self.network.bind is None else (self.network.bind, 0)
        left = until - asyncio.get_running_loop().time()
        try:
            async with within(until, "proxy", f"no answer from {self}"):
                # The deadline is ours; the library's own comes after it.
                sock = await library.connect(self.host, self.port, timeout=left + 60, local_addr=local)
        except ProxyConnectionError as error:
            if local is not None and error.errno in UNBOUND:
                raise unbound(local[0], error) from error
            raise ConnectError(f"the proxy {self.proxy} cannot be reached: {_reason(error)}", kind="proxy") from error
        except ProxyError as error:
            raise ConnectError(self._refusal(error), kind="proxy") from error
        except ConnectError:
            raise
        except (OSError, UnicodeError) as error:
            raise ConnectError(f"the proxy {self.proxy} failed: {_reason(error)}", kind="proxy") from error
        tune(sock, self.network)
        return sock

    def _refusal(self, error: ProxyError) -> str:
        said = printable(str(error))
        if error.error_code == _CREDENTIALS:
            return f"the proxy {self.proxy} wants other credentials ({said}); see proxy_username and proxy_password"
        return f"the proxy {self.proxy} does not connect to {bracketed(self.host)}:{self.port}: {said}"


def _reason(error: Exception) -> str:
    """Return the system's words for an error, without what the library puts around them."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else printable(str(error))
