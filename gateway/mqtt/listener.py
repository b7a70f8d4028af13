"""Who is told about a link, and what arrives on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gateway.mqtt.errors import ConnectionLost
from gateway.mqtt.properties import Properties


@dataclass(frozen=True, slots=True)
class Message:
    """A message that the broker sent. At QoS 1 it is acknowledged once the listener has returned."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = field(default_factory=Properties)


class Listener(Protocol):
    """Who is told. Every method is called from the loop, never within a call to the connection, and must not raise.

    Nothing is called before `connect` has returned, nothing after `lost`, `abort` or the end of `close`.
    """

    def acknowledged(self, tokens: list[int]) -> None:
        """The broker has these messages (QoS 1), or they were written (QoS 0). Called once for each read."""

    def refused(self, token: int, reason: int) -> None:
        """The broker will not take this message: a PUBACK with a reason of 0x80 or above. It is out of the window."""

    def writable(self) -> None:
        """There is room again, after the transport had been paused."""

    def received(self, message: Message) -> None:
        """A message has come for a subscription."""

    def lost(self, error: ConnectionLost) -> None:
        """The link is gone; the error says why. Called once at most. What is in flight may or may not have arrived."""
