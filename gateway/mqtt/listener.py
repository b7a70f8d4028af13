"""Who is told about a link, and what arrives on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gateway.mqtt.errors import ConnectionLost
from gateway.mqtt.properties import Properties


@dataclass(slots=True)  # not frozen: that would cost more than all the rest of receiving one
class Message:
    """A message that the broker sent. It is answered once the listener has returned, or, held, once it is confirmed."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    properties: Properties = field(default_factory=Properties)
    packet_id: int = 0  # 0 at QoS 0


class Listener(Protocol):
    """Who is told. Every method is called from the loop, never within a call to the connection, and must not raise.

    Nothing is called before `connect` has returned, nothing after `lost`, `abort` or the end of `close`.
    """

    def acknowledged(self, tokens: list[int]) -> None:
        """The broker has these messages (QoS 1 and 2), or they were written (QoS 0). Called once for each read."""

    def recorded(self, tokens: list[int]) -> None:
        """The broker has these QoS 2 messages and will not take them twice: they must never be published again.

        They are not over: `Connection.release` lets them go on, at once or when that is durable. Called once for each
        read.
        """

    def refused(self, token: int, reason: int, said: str) -> None:
        """The broker will not take this message: PUBACK or PUBREC of 0x80 or above. It is out of the window.

        `said` is what the broker says to it, in its own words, on one line; often nothing.
        """

    def writable(self) -> None:
        """There is room again, after the transport had been paused."""

    def received(self, message: Message) -> None:
        """A message has come for a subscription; at QoS 2, once for each."""

    def lost(self, error: ConnectionLost) -> None:
        """The link is gone; the error says why. Called once at most. What is in flight may or may not have arrived."""


@runtime_checkable
class Forgetter(Protocol):
    """A listener that keeps the identifiers of QoS 2 messages somewhere durable, with `hold_received`."""

    def forgotten(self, packet_id: int) -> None:
        """The broker is done with this message and may use its identifier for another one.

        It must be forgotten as durably as it was kept, or that other one would be taken for the same. Then
        `Connection.confirm` tells the broker.
        """
