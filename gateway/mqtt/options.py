"""What a caller says about a link, and what the broker says back."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.mqtt.address import Network, Tls
from gateway.mqtt.packets import Will

# Which protocol levels are tried, in this order, until the broker takes one.
LEVELS = {"auto": (5, 4), "5": (5,), "3.1.1": (4,), "3.1": (3,)}
NAMES = {3: "3.1", 4: "3.1.1", 5: "5"}


@dataclass(frozen=True, slots=True)
class Options:
    """How to open a link, and how to keep it. Durations are seconds."""

    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive: float = 30.0  # 0: none
    clean: bool = True  # forget the session that the broker may have kept
    session_expiry: int = 0  # how long the broker keeps the session after the link is gone; MQTT 5 only
    protocol: str = "auto"  # "auto" | "3.1" | "3.1.1" | "5"
    will: Will | None = None
    window: int = 1000  # QoS 1 messages sent and not yet acknowledged, at most
    connect_timeout: float = 5.0  # for everything up to CONNACK
    ack_timeout: float = 5.0  # for each answer that the broker owes
    ack_lag: float = 0.0  # while few messages are in flight, acknowledgements are read together, this late at most
    maximum_packet_size: int = 1 << 20  # the largest that is taken from the broker
    tls: Tls | None = None  # for mqtts; None: the system's certificate store
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        if self.protocol not in LEVELS:
            raise ValueError(f"unknown protocol {self.protocol!r}; use one of {', '.join(LEVELS)}")
        if not 1 <= self.window <= 0xFFFF:
            raise ValueError("the window must be from 1 to 65535")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker allows on this link, from its CONNACK; the defaults are those of a broker that says nothing."""

    receive_maximum: int = 0xFFFF  # QoS 1 and 2 messages that it takes before it has acknowledged them
    maximum_packet_size: int | None = None  # None: no limit
    maximum_qos: int = 2
    retain_available: bool = True
    topic_alias_maximum: int = 0
    keep_alive: float = 0.0  # the one in force, in seconds; 0: none
    client_id: str = ""  # the one in force
    wildcard_subscription_available: bool = True
    shared_subscription_available: bool = True
