"""What a caller says about a link, and what the broker says back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.mqtt.address import Network, Tls
from gateway.mqtt.packets import Will

# Which protocol levels are tried, in this order, until the broker takes one.
LEVELS = {"auto": (5, 4, 3), "5": (5,), "3.1.1": (4,), "3.1": (3,)}
NAMES = {3: "3.1", 4: "3.1.1", 5: "5"}
LONGEST_ID_31 = 23  # characters of a client id in MQTT 3.1 (its section 3.1)


class Authentication(Protocol):
    """The client's side of an enhanced authentication (MQTT 5.0 section 4.12). It is called from the loop."""

    method: str  # its name, such as "SCRAM-SHA-256"

    def start(self) -> bytes | None:
        """Return what CONNECT says, or the AUTH that begins a re-authentication; None for nothing."""

    def answer(self, data: bytes | None) -> bytes | None:
        """Return what answers the broker's `data`; called for each AUTH that asks to go on.

        Called as well with the data of the broker's last word, CONNACK or AUTH, if there is any: then what it returns
        is not sent. Raise ValueError, in words, to refuse the broker.
        """


@dataclass(frozen=True, slots=True)
class Options:
    """How to open a link, and how to keep it. Durations are seconds."""

    client_id: str  # may be empty with `clean`: then the broker gives one
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive: float = 30.0  # 0: none
    clean: bool = True  # forget the session that the broker may have kept
    session_expiry: int = 0  # how long the broker keeps the session after the link is gone; MQTT 5 only
    protocol: str = "auto"  # "auto" | "3.1" | "3.1.1" | "5"
    will: Will | None = None
    window: int = 1000  # messages of QoS 1 and 2 without an end, at most
    connect_timeout: float = 5.0  # for everything up to CONNACK
    ack_timeout: float = 5.0  # for each answer that the broker owes
    ack_lag: float = 0.0  # while few messages are in flight, acknowledgements are read together, this late at most
    maximum_packet_size: int = 1 << 20  # the largest that is taken from the broker
    tls: Tls | None = None  # for mqtts; None: the system's certificate store
    network: Network = field(default_factory=Network)
    numbered: bool = False  # packet identifiers are functions of the tokens, the same on every connection
    hold_received: bool = False  # messages of QoS 1 and 2 are answered when the owner confirms them
    # What follows is said in MQTT 5 only.
    receive_maximum: int = 1000  # messages of QoS 1 and 2 that the broker may send before we have answered them
    topic_aliases: int = 0  # topics that are sent as a number, at most; those used last
    topic_alias_maximum: int = 0  # topics that the broker may send as a number
    request_response_information: bool = False
    request_problem_information: bool = True  # reason strings and user properties wherever the broker has some
    user_properties: tuple[tuple[str, str], ...] = ()  # of CONNECT
    authentication: Authentication | None = None
    # Told "out" or "in" and a line for each packet, without secrets.
    trace: Callable[[str, str], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.protocol not in LEVELS:
            raise ValueError(f"unknown protocol {self.protocol!r}; use one of {', '.join(LEVELS)}")
        if not 1 <= self.window <= 0xFFFF:
            raise ValueError("the window must be from 1 to 65535")
        if not 1 <= self.receive_maximum <= 0xFFFF:
            raise ValueError("receive_maximum must be from 1 to 65535")
        for name in ("topic_aliases", "topic_alias_maximum"):
            if not 0 <= getattr(self, name) <= 0xFFFF:
                raise ValueError(f"{name} must be from 0 to 65535")
        if self.protocol == "3.1" and not self._known_to_31():
            raise ValueError(
                f"a client id has 1 to {LONGEST_ID_31} characters in MQTT 3.1, not {len(self.client_id)}: "
                f"{self.client_id!r}"
            )
        if not self.client_id and not self.clean:
            raise ValueError("a client id is needed for a session that the broker keeps")

    @property
    def levels(self) -> tuple[int, ...]:
        """Return the protocol levels to try, in this order."""
        levels = LEVELS[self.protocol]
        if self.authentication is not None:
            return levels[:1]  # an older protocol would be a link without it
        return levels if self._known_to_31() else tuple(level for level in levels if level > 3)

    def _known_to_31(self) -> bool:
        return 1 <= len(self.client_id) <= LONGEST_ID_31


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
    session_expiry: int = 0  # in force: seconds for which the broker keeps the session; 0xFFFFFFFF: for ever
    wildcard_subscription_available: bool = True
    shared_subscription_available: bool = True
    subscription_identifier_available: bool = True
    response_information: str | None = None  # from which response topics are made
    server_reference: str | None = None  # another server that the broker would rather see used
    reason_string: str | None = None  # what it had to say, in its own words
