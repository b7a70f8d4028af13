"""The packets of MQTT 3.1, 3.1.1 and 5.0 as values. Properties exist in 5.0 only, and are empty otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.mqtt.properties import Properties


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that went without saying so."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    properties: Properties = field(default_factory=Properties, hash=False)


@dataclass(frozen=True, slots=True)
class Connect:
    """The client's first packet. `level` is 3 (MQTT 3.1), 4 (3.1.1) or 5; `keep_alive` is in seconds."""

    level: int
    client_id: str
    clean: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer to CONNECT: 0 is welcome."""

    session_present: bool = False
    reason: int = 0
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Publish:
    """A message, in either direction. `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class _Answer:
    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Puback(_Answer):
    """QoS 1: the receiver has the message, or refuses it (reason 0x80 and above)."""


@dataclass(frozen=True, slots=True)
class Pubrec(_Answer):
    """QoS 2, first answer: the receiver has the message, or refuses it."""


@dataclass(frozen=True, slots=True)
class Pubrel(_Answer):
    """QoS 2, second step of the sender: the message may be passed on."""


@dataclass(frozen=True, slots=True)
class Pubcomp(_Answer):
    """QoS 2, last answer: the packet identifier is free again."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One topic filter of a SUBSCRIBE. All but `filter` and `qos` exist in MQTT 5 only."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask for messages."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Suback:
    """One reason for each subscription: the QoS granted, or 0x80 and above."""

    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Ask for no more of these messages."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Unsuback:
    """One reason for each filter; none before MQTT 5."""

    packet_id: int
    reasons: tuple[int, ...] = ()
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Pingreq:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """Yes."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """An orderly end: the broker forgets the will. In MQTT 5 the broker may send it too, and says why."""

    reason: int = 0
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class Auth:
    """One step of an extended authentication; MQTT 5 only."""

    reason: int = 0
    properties: Properties = field(default_factory=Properties)


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
