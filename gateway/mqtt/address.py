"""Where a broker listens and how its bytes are reached: the URL, TLS, and what the network needs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
WEBSOCKET_PATH = "/mqtt"  # where brokers expect it, when the URL says nothing
_SCHEMES = "mqtt, mqtts, ws, wss or unix"

# Proxies, load balancers and RabbitMQ close a WebSocket that was silent for 60 s; some do so at 50.
_WEBSOCKET_KEEP_ALIVE = 40.0

# What may be the name of a header (RFC 9110, section 5.6.2), and the ones that make the WebSocket.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = re.compile(r"sec-websocket-.*|upgrade|connection|content-length|transfer-encoding", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens. `str()` gives the URL again; it never holds a secret."""

    scheme: str  # "mqtt" | "mqtts" | "ws" | "wss" | "unix"
    host: str = ""  # a name or an IP address; IPv6 without brackets
    port: int = 0
    path: str = ""  # of a unix socket or a WebSocket

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `mqtt://host[:port]`, `mqtts://...`, `ws://host[:port][/path]`, `wss://...` or `unix:///path`.

        Raises ValueError that says what to write instead.
        """
        scheme, colon, rest = url.partition(":")
        scheme = scheme.lower()
        if scheme == "unix" and colon:
            return cls._unix(rest)
        if not rest.startswith("//"):
            raise ValueError("a broker is written as a URL, such as mqtt://localhost:1883")
        if scheme not in PORTS:
            raise ValueError(f"unknown scheme {scheme}://; use {_SCHEMES}")
        # Said before anything of the URL is shown, because what stands here may be a secret.
        if "@" in rest:
            raise ValueError("no user name or password in the URL; use the keys username and password")
        if "?" in rest and scheme in ("ws", "wss"):
            raise ValueError("no query in the URL, which is shown in logs; what proves who you are goes into headers")
        host, port, path = _split(scheme, url)
        if scheme in ("ws", "wss"):
            return cls(scheme, host, port, path or WEBSOCKET_PATH)
        if path not in ("", "/"):
            raise ValueError(f"nothing may follow the port; write {scheme}://{bracketed(host)}:{port}")
        return cls(scheme, host, port)

    @classmethod
    def _unix(cls, rest: str) -> Address:
        path = rest.removeprefix("//")
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(
                "a unix socket is written with its absolute path, such as unix:///run/mosquitto/mosquitto.sock"
            )
        return cls("unix", path=path)

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """Whether MQTT travels in a WebSocket there."""
        return self.scheme in ("ws", "wss")

    @property
    def keep_alive_at_most(self) -> float | None:
        """How many seconds a link may be silent there; None: as long as the broker likes."""
        return _WEBSOCKET_KEEP_ALIVE if self.websocket else None

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}{self.path}"


def bracketed(host: str) -> str:
    """Return a host as a URL has it."""
    return f"[{host}]" if ":" in host else host


def _split(scheme: str, url: str) -> tuple[str, int, str]:
    """Return host, port and path of a URL. Raises ValueError."""
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("a space or a control character in the URL")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or (port is None and parts.netloc.endswith(":")):
        raise ValueError("the port must be a number from 1 to 65535")
    if not host:
        raise ValueError(f"no host name in the URL; write {scheme}://host")
    port = port or PORTS.get(scheme, 0)
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        after = "port" if scheme not in ("ws", "wss") else "path"
        path = parts.path if after == "path" else ""
        raise ValueError(f"nothing may follow the {after}; write {scheme}://{bracketed(host)}:{port}{path}")
    if not parts.path.isascii():
        raise ValueError("a path with other than ASCII characters must be percent-encoded")
    return host, port, parts.path


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust a broker and to be trusted by it. Files are read again, when they have changed, at each connect.

    Raises ValueError that names the field and what it may be.
    """

    ca: str | None = None  # trust this file or directory instead of the system's certificate store
    certificate: str | None = None  # file of the client's own, with its chain
    key: str | None = None  # file of the certificate's key; None: in the same file
    key_password: str | None = field(default=None, repr=False)  # the password itself
    insecure: bool = False  # take any certificate for any name
    server_name: str | None = None  # the name that the certificate must carry, and that is asked for; None: the host
    alpn: tuple[str, ...] = ()  # protocols to offer, best first, such as "mqtt" or "x-amzn-mqtt-ca"
    minimum_version: str = "1.2"  # "1.2" | "1.3"

    def __post_init__(self) -> None:
        if self.minimum_version not in ("1.2", "1.3"):
            raise ValueError(f'minimum_version must be "1.2" or "1.3", not {self.minimum_version!r}')
        for name in self.alpn:
            if not name.isascii() or not 1 <= len(name) <= 255:
                raise ValueError(f"alpn: a protocol is 1 to 255 ASCII characters, not {name!r}")


@dataclass(frozen=True, slots=True)
class Network:
    """How the bytes travel. Durations are seconds. Raises ValueError that names the field and what it may be."""

    nodelay: bool = True  # TCP_NODELAY: send at once
    keepalive: bool = True  # SO_KEEPALIVE: the kernel asks for a sign of life, at its own pace
    user_timeout: float | None = None  # TCP_USER_TIMEOUT: give up when sent bytes are not acknowledged for so long
    bind: str | None = None  # IP address of this machine to connect from
    proxy: str | None = None  # http://host:port, socks5://host:port, or socks5h:// to resolve names there as well
    proxy_username: str | None = None
    proxy_password: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of the request for a WebSocket

    def __post_init__(self) -> None:
        if self.user_timeout is not None and not 0.001 <= self.user_timeout <= 0x7FFFFFFF / 1000:
            raise ValueError(f"user_timeout must be from 1 ms to 24 days, not {self.user_timeout} s")
        if self.bind is not None:
            try:
                ip_address(self.bind)
            except ValueError:
                raise ValueError(f"bind must be an IP address of this machine, not {self.bind!r}") from None
        self._check_proxy()
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
                raise ValueError(f"headers: {name!r} cannot be the name of a header here")
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"headers: the value of {name} must be printable ASCII characters")

    def _check_proxy(self) -> None:
        if self.proxy is not None:
            try:
                Proxy.parse(self.proxy)
            except ValueError as error:
                raise ValueError(f"proxy: {error}") from None
        elif self.proxy_username is not None:
            raise ValueError("proxy_username needs proxy beside it")
        if self.proxy_password is not None and self.proxy_username is None:
            raise ValueError("proxy_password needs proxy_username beside it")
        if self.proxy_username is not None:
            if ":" in self.proxy_username or not self.proxy_username:
                raise ValueError('proxy_username must not be empty or have a ":" in it')
            if not self.proxy_password:
                raise ValueError("proxy_username needs proxy_password beside it")


class Proxy(NamedTuple):
    """Where a proxy listens, and what it speaks. `str()` gives its URL."""

    scheme: str  # "http" (CONNECT, RFC 9110) | "socks5" (RFC 1928) | "socks5h": names are resolved by the proxy
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `http://host:port`, `socks5://host:port` or `socks5h://host:port`.

        Raises ValueError that says what to write instead.
        """
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in ("http", "socks5", "socks5h") or not rest:
            raise ValueError("a proxy is written as http://host:port, socks5://host:port or socks5h://host:port")
        if "@" in rest:
            raise ValueError("no user name or password in the URL; use proxy_username and proxy_password")
        host, port, path = _split(scheme, url)
        if not port or path not in ("", "/"):
            raise ValueError(f"write {scheme}://{bracketed(host)}:{port or 'PORT'}")
        return cls(scheme, host, port)

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"
