"""What can go wrong between this client and a broker, in words of the world."""

from __future__ import annotations

from typing import Literal, TypeAlias

# Why no link could be made, from the first step to the last: the name is not known; nobody answers there; the proxy,
# TLS or the WebSocket failed; closed, silent or nonsense instead of a CONNACK; refused by CONNACK.
Kind: TypeAlias = Literal["name", "unreachable", "proxy", "tls", "websocket", "closed", "silent", "protocol", "refused"]


class MqttError(OSError):
    """Something between this client and a broker went wrong."""


class ConnectError(MqttError, ConnectionError):
    """No link with the broker could be made; `kind` says at which step."""

    def __init__(self, message: str, *, kind: Kind) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class ConnectRefused(ConnectError):
    """The broker answered CONNECT, and said no; `reason` is its code, `level` the protocol level it was asked in.

    `server_reference` names another server, if the broker did.
    """

    def __init__(self, message: str, *, reason: int, level: int, server_reference: str | None = None) -> None:
        super().__init__(message, kind="refused")
        self.reason = reason
        self.level = level
        self.server_reference = server_reference


class ConnectionLost(MqttError, ConnectionError):
    """A link that was up is gone; `reason` is the code of the broker's DISCONNECT, if it sent one.

    `server_reference` names another server, if the broker did. `by_broker`: it was the other side that hung up.
    """

    def __init__(
        self, message: str, *, reason: int | None = None, server_reference: str | None = None, by_broker: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.server_reference = server_reference
        self.by_broker = by_broker


class ProtocolError(MqttError, ValueError):
    """The other side sent what MQTT does not allow; `reason` is the MQTT 5 code for it."""

    def __init__(self, message: str, *, reason: int = 0x81) -> None:
        super().__init__(message)
        self.reason = reason
