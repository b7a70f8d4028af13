"""A way into a broker: what our client and paho-mqtt, the independent peer, must both know to get in there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.mqtt import Tls


@dataclass(frozen=True)
class Way:
    """One listener of a broker."""

    scheme: str  # "mqtt" | "mqtts" | "ws" | "wss"
    port: int
    path: str = ""  # of a WebSocket
    ca: Path | None = None  # who has signed the broker's certificate
    certificate: tuple[Path, Path] | None = None  # the client's own, and its key
    username: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """The broker's URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}{self.path}"

    @property
    def tls(self) -> Tls | None:
        """What our client needs for TLS, if the way has it."""
        if self.ca is None:
            return None
        certificate, key = map(str, self.certificate) if self.certificate else (None, None)
        return Tls(ca=str(self.ca), certificate=certificate, key=key)
