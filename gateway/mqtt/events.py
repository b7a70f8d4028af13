"""What can happen on a link, as the session tells it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.listener import Message
from gateway.mqtt.packets import Auth, Connack, Disconnect, Pingresp


class Acknowledged(NamedTuple):
    """The broker has the messages with these tokens, and they have come to their end."""

    tokens: list[int]


class Recorded(NamedTuple):
    """The broker has the QoS 2 messages with these tokens, and waits until they are released."""

    tokens: list[int]


class Refused(NamedTuple):
    """The broker will not take the message with this token."""

    token: int
    reason: int
    said: str = ""  # the broker's own words


class Answered(NamedTuple):
    """The broker has answered a SUBSCRIBE or UNSUBSCRIBE, with one reason for each filter."""

    packet_id: int
    reasons: list[int]


class Forgotten(NamedTuple):
    """The broker will not send the QoS 2 message with this identifier again; PUBCOMP waits for the owner."""

    packet_id: int


# A ProtocolError is always the last event: nothing is read after it.
Event: TypeAlias = (
    Acknowledged
    | Recorded
    | Refused
    | Message
    | Forgotten
    | Answered
    | Connack
    | Auth
    | Pingresp
    | Disconnect
    | ProtocolError
)
