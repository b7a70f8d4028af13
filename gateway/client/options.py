"""What a client is told when it is made: one declaration for both faces, with defaults, bounds and units."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from gateway.client.checks import Checked, Kind, Number, OneOf, call, check_fields, flag, flag_or_none, pairs
from gateway.client.delivery import Delivery
from gateway.client.events import Connected, ConnectionLost, Reconnecting
from gateway.mqtt import Address, Message, Network, Tls, Will
from gateway.mqtt.options import LEVELS, Authentication
from gateway.reading import Publication
from gateway.uplink.broker import Fresh
from gateway.uplink.profiles import PROFILES

YEAR = 365 * 86_400

Flag: TypeAlias = Annotated[bool, flag]
Text: TypeAlias = Annotated[str | None, Kind((str,), "text")]
Password: TypeAlias = Annotated[str | bytes | None, Kind((str, bytes), "text or bytes")]
Protocol: TypeAlias = Annotated[str, OneOf(tuple(LEVELS))]
Profile: TypeAlias = Annotated[str, OneOf(tuple(PROFILES))]
TlsOrNone: TypeAlias = Annotated[Tls | None, Kind((Tls,), "a Tls")]
NetworkOrNone: TypeAlias = Annotated[Network | None, Kind((Network,), "a Network")]
FreshOrNone: TypeAlias = Annotated[Fresh | None, call]
Count: TypeAlias = Annotated[int, Number(1, 65_535, "messages", whole=True)]
Aliases: TypeAlias = Annotated[int, Number(0, 65_535, whole=True)]
Seconds: TypeAlias = Annotated[float, Number(0.01, 86_400, "seconds")]


@dataclass(kw_only=True)
class Broker:
    """One broker of a client: what it does not say (None), the client says. `url` as in mqtts://host:8883.

    `credentials` is asked for user name and password before each connect, instead of `username` and `password`.
    `profile` is what the broker can take, where it cannot say so itself. Raises TypeError and ValueError.
    """

    url: Annotated[str, Kind((str,), "text", optional=False)] = field(kw_only=False)
    username: Text = None
    password: Password = field(default=None, repr=False)
    credentials: FreshOrNone = None
    tls: TlsOrNone = None
    protocol: Annotated[str | None, OneOf((*LEVELS, None))] = None
    client_id: Text = None
    profile: Annotated[str | None, OneOf((*PROFILES, None))] = None
    network: NetworkOrNone = None

    def __post_init__(self) -> None:
        check_fields(self)
        _ = self.address

    @property
    def address(self) -> Address:
        """The URL, taken apart."""
        return Address.parse(self.url)


@dataclass(repr=False, eq=False)
class ClientOptions:
    """The arguments of `Client` and of `BlockingClient`. Durations are seconds, sizes bytes.

    `brokers` is a URL or a `Broker`, or several in order of preference. `store` is the file in which messages outlive
    the process and the power; None: memory only. `client_id` defaults to one that is the same in every run with this
    store, and to a random one without a store. Raises TypeError and ValueError, naming the parameter and its bounds.
    """

    brokers: str | Broker | Sequence[str | Broker]
    store: Annotated[str | os.PathLike[str] | None, Kind((str, os.PathLike), "a path")] = None
    client_id: Text = None
    _: KW_ONLY

    # Who this is. `credentials` is asked before each connect, instead of `username` and `password`.
    username: Text = None
    password: Password = None
    credentials: FreshOrNone = None
    authentication: Authentication | None = None  # MQTT 5's enhanced authentication
    tls: TlsOrNone = None  # for mqtts and wss; None: the system's authorities
    network: NetworkOrNone = None  # proxy, bind address, WebSocket headers, ...

    # The session. `clean_start`: forget the one that the broker keeps; None: only without a store. `session_expiry`:
    # how long it is kept without a link; None: not at all if clean, else a week.
    protocol: Protocol = "auto"  # 5, then 3.1.1, then 3.1
    keep_alive: Annotated[float, Number(0, 65_535, "seconds")] = 30.0  # 0: none
    clean_start: Annotated[bool | None, flag_or_none] = None
    session_expiry: Annotated[int | None, Number(0, 0xFFFF_FFFF, "seconds", whole=True, optional=True)] = None
    will: Annotated[Will | None, Kind((Will,), "a Will")] = None  # what the broker says for a client that vanished
    birth: Annotated[Publication | None, Kind((Publication,), "a Publication")] = None  # said first on every link
    profile: Profile = "generic"  # what the brokers can take, where they cannot say so themselves
    request_response_information: Flag = False  # MQTT 5: see `Status.limits` for the answer
    user_properties: Annotated[Sequence[tuple[str, str]], pairs] = ()  # MQTT 5: of CONNECT

    # The link. `connect_timeout`: for each broker, from its name to CONNACK. `ack_timeout`: a link that owes an
    # acknowledgement for this long is given up. `reconnect_min`: ceiling of the first random delay; it doubles each
    # time, up to `reconnect_max`. `mode`: independent brokers ("hunt"), or nodes that share their sessions ("equal").
    # `failback`: how long a better broker has to be good before it is used again; None: stay.
    connect_timeout: Annotated[float, Number(0.1, 3600, "seconds")] = 5.0
    ack_timeout: Annotated[float, Number(0.1, 3600, "seconds")] = 5.0
    reconnect_min: Seconds = 0.5
    reconnect_max: Seconds = 10.0
    mode: Annotated[Literal["hunt", "equal"], OneOf(("hunt", "equal"))] = "hunt"
    failback: Annotated[float | None, Number(0, YEAR, "seconds", optional=True)] = 30.0
    window: Count = 1000  # messages sent and not yet acknowledged
    topic_aliases: Aliases = 0  # MQTT 5: topics that are sent as a number

    # What comes in. `max_incoming`: messages that may wait for a slow consumer; then nothing more is read.
    max_incoming: Annotated[int, Number(1, 10_000_000, "messages", whole=True)] = 1000
    # `receive_maximum`: MQTT 5, messages that the broker may send before it has our answer; not less by default, as
    # mosquitto 2.0.11 exceeds a lower one when it is busy, which costs the link.
    receive_maximum: Count = 65_535
    maximum_packet_size: Annotated[int, Number(128, 268_435_460, "bytes", whole=True)] = 1 << 20  # that is taken
    topic_alias_maximum: Aliases = 0  # MQTT 5: aliases that the broker may use

    # What waits to go out. `max_bytes`: None is 100 MB in memory and 1 GB in a store. `commit_interval`: how long a
    # message may exist only in memory; 0: it is in the store before it is sent.
    max_count: Annotated[int | None, Number(1, 1 << 40, "messages", whole=True, optional=True)] = None
    max_bytes: Annotated[int | None, Number(1024, 1 << 50, "bytes", whole=True, optional=True)] = None
    max_age: Annotated[float | None, Number(0.001, 100 * YEAR, "seconds", optional=True)] = None
    when_full: Annotated[str, OneOf(("reject", "drop-oldest", "drop-newest"))] = "reject"
    commit_interval: Annotated[float, Number(0, 3600, "seconds")] = 0.0

    # Who is told; called from the client's loop, and not to be blocked.
    on_message: Annotated[Callable[[Message], object] | None, call] = None  # what no other subscriber gets
    on_connected: Annotated[Callable[[Connected], object] | None, call] = None
    on_lost: Annotated[Callable[[ConnectionLost], object] | None, call] = None
    on_reconnecting: Annotated[Callable[[Reconnecting], object] | None, call] = None
    on_delivered: Annotated[Callable[[Delivery], object] | None, call] = None  # each message's end, good or bad
    trace: Flag = False  # log every packet at debug level, without secrets
    logger: Any = None  # a structlog logger; None: structlog if it is configured, else logging's "gateway.client"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.reconnect_min > self.reconnect_max:
            low, high = f"{self.reconnect_min:g} s", f"{self.reconnect_max:g} s"
            raise ValueError(f"reconnect_min ({low}) must not be more than reconnect_max ({high})")
        checked = Checked()
        for name, message in (("will", self.will), ("birth", self.birth)):
            if message is not None:
                try:
                    checked.publication(message.topic, message.payload, message.qos, message.retain, None)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{name}: {error}") from None
