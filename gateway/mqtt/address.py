"""Where a broker listens and how its bytes are reached: the URL, TLS, and what the network needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens. `str()` gives the URL again; it never holds a secret."""

    scheme: str  # "mqtt" | "mqtts" | "unix"
    host: str = ""  # a name or an IP address; IPv6 without brackets
    port: int = 0
    path: str = ""  # of a unix socket

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `mqtt://host[:port]`, `mqtts://host[:port]` or `unix:///path`.

        Raises ValueError that says what to write instead.
        """
        scheme, colon, rest = url.partition(":")
        scheme = scheme.lower()
        if scheme == "unix" and colon:
            return cls._unix(rest)
        if not rest.startswith("//"):
            raise ValueError("a broker is written as a URL, such as mqtt://localhost:1883")
        if scheme in ("ws", "wss"):
            raise ValueError(f"{scheme}:// is not supported yet; use mqtt, mqtts or unix")
        if scheme not in PORTS:
            raise ValueError(f"unknown scheme {scheme}://; use mqtt, mqtts or unix")
        # Said before anything of the URL is shown, because what stands here may be a secret.
        if "@" in rest:
            raise ValueError("no user name or password in the URL; use the keys username and password")
        return cls._tcp(scheme, url)

    @classmethod
    def _unix(cls, rest: str) -> Address:
        path = rest.removeprefix("//")
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise ValueError(
                "a unix socket is written with its absolute path, such as unix:///run/mosquitto/mosquitto.sock"
            )
        return cls("unix", path=path)

    @classmethod
    def _tcp(cls, scheme: str, url: str) -> Address:
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
        if parts.path not in ("", "/") or parts.query or parts.fragment or url.endswith(("?", "#")):
            raise ValueError(
                f"nothing may follow the port; write {scheme}://{cls._bracketed(host)}:{port or PORTS[scheme]}"
            )
        return cls(scheme, host, port or PORTS[scheme])

    @staticmethod
    def _bracketed(host: str) -> str:
        return f"[{host}]" if ":" in host else host

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{self._bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust a broker and to be trusted by it. All of them are paths, except where said otherwise."""

    ca: str | None = None  # trust this file or directory instead of the system's certificate store
    certificate: str | None = None  # the client's own, with its chain
    key: str | None = None  # of the client's certificate; None: in the same file
    key_password: str | None = field(default=None, repr=False)  # the password itself
    insecure: bool = False  # take any certificate for any name
    server_name: str | None = None  # the name that the certificate must carry; None: the address's host


@dataclass(frozen=True, slots=True)
class Network:
    """How the bytes travel. Durations are seconds."""
