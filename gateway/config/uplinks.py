"""The `[uplinks.<name>]` tables: brokers, credentials, and how a link is kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.config.names import Name, TopicTemplate
from gateway.config.problems import Conflict, did_you_mean, refuse, refuse_together
from gateway.config.rates import RateLimit
from gateway.config.reach import ReachSection
from gateway.config.secret import Secret
from gateway.config.section import Text
from gateway.formats.packing import ZstdMissing, zstd
from gateway.mqtt import Address
from gateway.units import DURATION_PATTERN, Duration, duration_text

FORMATS = ("json",)
PROFILES = ("generic", "aws-iot", "azure-iot-hub", "azure-event-grid", "alibaba-iot", "hivemq", "rabbitmq", "nats")


def _failback(value: Any) -> Any:
    return None if value == "never" else value


def _url(url: str) -> str:
    """Check a broker's URL. One that could carry a password is refused before anything can repeat it."""
    if not url.startswith("unix:") and "@" in url:
        raise refuse(
            "url",
            "a URL is shown in logs, so no user name or password in it; use the keys username and password",
        )
    try:
        return str(Address.parse(url))
    except ValueError as error:
        raise refuse("url", str(error)) from None


def _qos(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for 0 and 1
        raise refuse("qos", "must be 0, 1 or 2, not true or false")
    return value


def _profile(value: str) -> str:
    if value not in PROFILES:
        known = ", ".join(PROFILES)
        raise refuse("profile", f'unknown profile "{value}"{did_you_mean(value, tuple(PROFILES))} (there are: {known})')
    return value


def _format(value: str) -> str:
    if value not in FORMATS:
        raise refuse(
            "format", f'unknown format "{value}"{did_you_mean(value, FORMATS)} (there is: {", ".join(FORMATS)})'
        )
    return value


def _compress(value: str) -> str:
    if value == "zstd":
        try:
            zstd()
        except ZstdMissing as error:
            raise refuse("zstd", str(error)) from None
    return value


BrokerUrl: TypeAlias = Annotated[
    str,
    AfterValidator(_url),
    WithJsonSchema({"type": "string", "pattern": r"^(mqtts?://[^/@?]+|wss?://[^@?#]+|unix:.+)$"}),
]
Failback: TypeAlias = Annotated[
    Duration | None,
    BeforeValidator(_failback),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": "never"}]}),
]
Qos: TypeAlias = Annotated[Literal[0, 1, 2], BeforeValidator(_qos)]
Profile: TypeAlias = Annotated[
    str, AfterValidator(_profile), WithJsonSchema({"type": "string", "enum": list(PROFILES)})
]
Format: TypeAlias = Annotated[str, AfterValidator(_format), WithJsonSchema({"type": "string", "enum": list(FORMATS)})]
Compress: TypeAlias = Annotated[Literal["none", "gzip", "zstd"], AfterValidator(_compress)]
Protocol: TypeAlias = Literal["auto", "3.1", "3.1.1", "5"]


class BrokerSection(ReachSection):
    """One broker of an uplink, written as a table: what it does not say, its uplink says."""

    url: BrokerUrl = Field(
        description="mqtt://host:1883, mqtts://host:8883, ws://host:80/mqtt, wss://host:443/mqtt or unix:///path."
    )
    username: Text | None = Field(default=None, description="User name at this broker.")
    password: Secret | None = Field(default=None, description="Password at this broker.")
    protocol: Protocol | None = Field(default=None, description="MQTT version that this broker speaks.")
    client_id: Text | None = Field(default=None, description="Client identifier at this broker.")
    profile: Profile | None = Field(default=None, description="What this broker takes, where it cannot say so itself.")

    @property
    def address(self) -> Address:
        """The URL, taken apart."""
        return Address.parse(self.url)

    @model_validator(mode="after")
    def _together(self) -> Self:
        conflicts = self.out_of_place({self.address.scheme}, f"this one is {self.url}") + self.incomplete_proxy()
        if conflicts:
            raise refuse_together(conflicts)
        return self


def _broker(value: Any) -> Any:
    if isinstance(value, str):
        return {"url": value}
    if isinstance(value, dict):
        return value
    raise refuse("broker", 'must be a URL such as "mqtt://host", or a table with url')


Broker: TypeAlias = Annotated[BrokerSection, BeforeValidator(_broker, json_schema_input_type=BrokerUrl | BrokerSection)]
"""A broker, or only its URL."""


class UplinkSection(ReachSection):
    """One destination: it carries the outbox to one of its brokers."""

    brokers: list[Broker] = Field(
        min_length=1, description="In order of preference; each a URL, or a table with url and keys of its own."
    )
    protocol: Protocol = Field(default="auto", description='MQTT version. "auto" tries 5, then 3.1.1, then 3.1.')
    username: Text | None = Field(default=None, description="User name at the brokers.")
    password: Secret | None = Field(default=None, description="Password at the brokers.")
    client_id: Text | None = Field(
        default=None, description="Client identifier. Default: derived from this machine and the uplink's name."
    )
    qos: Qos = Field(
        default=1,
        description="1: a reading is kept until the broker has acknowledged it. 0: until it is written to the socket. "
        "2: exactly once at a broker that keeps the session; every reading is on the card before it is sent.",
    )
    profile: Profile = Field(
        default="generic",
        description="What the brokers take, where they cannot say so themselves: a cloud, or a kind of broker.",
    )
    mode: Literal["hunt", "equal"] = Field(
        default="hunt",
        description="hunt: independent brokers, the first is the best. equal: nodes that share their sessions.",
    )
    topic: TopicTemplate = Field(
        default="{base}/{gateway}/{device}",
        description="Topic of a reading, of {base}, {gateway}, {device} and {uplink}.",
    )
    devices: list[Name] | None = Field(
        default=None, min_length=1, description="Whose readings it carries. Default: those of all devices."
    )
    metrics: list[Text] | None = Field(
        default=None,
        min_length=1,
        description='Which metrics it carries, by name; "*" stands for any letters. Default: all.',
    )
    commands: bool = Field(
        default=False,
        description="true: takes commands, from whoever may publish at its brokers. Its topics are "
        "{base}/{gateway}/{device}/{metric}/set and {base}/{gateway}/command.",
    )
    format: Format = Field(default="json", description="Format of the payload.")
    order: Literal["live-first", "strict"] = Field(
        default="live-first",
        description="live-first: after an outage new readings go at once, and the backlog beside them. "
        "strict: the oldest first, and the only order with qos = 2.",
    )
    rate_limit: RateLimit = Field(
        default=None,
        description="The most that is sent, in messages or bytes of topic and payload, live readings included: "
        '"50/s", "10/m", "10KB/s", or an array of one of each. Default: no limit.',
    )
    batch: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Readings of one device in one message, at most; every message is then an array, or lines. "
        "Default: each reading is a message of its own.",
    )
    batch_format: Literal["array", "lines"] = Field(
        default="array", description="With batch: a JSON array, or one reading a line."
    )
    compress: Compress = Field(
        default="none",
        description="Compression of the payload, which pays with batch. zstd takes the extra of that name.",
    )
    window: int = Field(default=1000, ge=1, le=65535, description="Readings sent and not yet acknowledged, at most.")
    keep_alive: Duration = Field(
        default=30.0, ge=1, le=65535, description="A link that was silent for this long is asked for a sign of life."
    )
    ack_timeout: Duration = Field(
        default=5.0, ge=0.1, description="A link that has not acknowledged a reading for this long is given up."
    )
    connect_timeout: Duration = Field(
        default=5.0, ge=0.1, description="The longest that connecting to one broker may take, from name to CONNACK."
    )
    reconnect_min: Duration = Field(
        default=0.5,
        ge=0.01,
        description="Ceiling of the random delay before the first new attempt; it doubles each time.",
    )
    reconnect_max: Duration = Field(default=10.0, ge=0.01, description="The longest delay before a new attempt.")
    failback: Failback = Field(
        default=30.0,
        ge=0,
        description='A better broker must have been good for this long before it is used again; "never": stay.',
    )

    @property
    def endpoints(self) -> tuple[BrokerSection, ...]:
        """The brokers in order of preference, complete: with what the uplink says where they are silent.

        User name and password go together: a broker that names one of its own gets neither from the uplink. So do a
        proxy and what proves who we are to it.
        """
        return tuple(self._complete(broker) for broker in self.brokers)

    def _complete(self, broker: BrokerSection) -> BrokerSection:
        own = broker.username is not None or broker.password is not None
        address = broker.address
        over = self if broker.proxy is None and address.scheme != "unix" else broker
        return broker.model_copy(
            update={
                "username": broker.username if own else self.username,
                "password": broker.password if own else self.password,
                "tls": broker.tls or (self.tls if address.tls else None),
                "headers": self.headers if broker.headers is None and address.websocket else broker.headers,
                "proxy": over.proxy,
                "proxy_username": over.proxy_username,
                "proxy_password": over.proxy_password,
                "bind": broker.bind or self.bind,
                "user_timeout": broker.user_timeout or self.user_timeout,
                "protocol": broker.protocol or self.protocol,
                "client_id": broker.client_id or self.client_id,
                "profile": broker.profile or self.profile,
            }
        )

    @model_validator(mode="after")
    def _together(self) -> Self:
        schemes = {broker.address.scheme for broker in self.brokers}
        conflicts = self.out_of_place(schemes, "this uplink has none") + self.incomplete_proxy()
        seen: list[Address] = []
        for index, broker in enumerate(self.brokers):
            if broker.address in seen:
                conflicts.append(
                    Conflict(("brokers", index), ("brokers",), f"brokers: {broker.address} is listed twice")
                )
            seen.append(broker.address)
        if self.reconnect_max < self.reconnect_min:
            lower, upper = duration_text(self.reconnect_min), duration_text(self.reconnect_max)
            words = f"reconnect_min ({lower}) must not be more than reconnect_max ({upper})"
            conflicts.append(Conflict(("reconnect_min",), ("reconnect_min", "reconnect_max"), words))
        for index, (broker, endpoint) in enumerate(zip(self.brokers, self.endpoints, strict=True)):
            if endpoint.password is not None and endpoint.username is None and endpoint.protocol in ("3.1", "3.1.1"):
                words = f"password needs username beside it: MQTT {endpoint.protocol} cannot send it alone"
                at = ("brokers", index, "password") if broker.password else ("password",)
                conflicts.append(Conflict(at, ("brokers", "password"), words))
        conflicts += self._unsendable()
        if conflicts:
            raise refuse_together(conflicts)
        return self

    @property
    def live_first(self) -> bool:
        """Whether new readings go before a backlog."""
        return self.order == "live-first" and self.qos < 2

    def _unsendable(self) -> list[Conflict]:
        """Return which of the keys that say how readings are sent do not go together."""
        conflicts = []
        if self.qos == 2:
            why = "with qos = 2 a reading's packet identifier follows from its place in the outbox"
            if self.order == "live-first" and "order" in self.model_fields_set:
                words = f'order: {why}, so that only "strict" is possible'
                conflicts.append(Conflict(("order",), ("order", "qos"), words))
            if self.batch is not None:
                conflicts.append(Conflict(("batch",), ("batch", "qos"), f"batch: {why}, so each goes by itself"))
        if self.batch is None and "batch_format" in self.model_fields_set:
            words = "batch_format: has no meaning without batch"
            conflicts.append(Conflict(("batch_format",), ("batch", "batch_format"), words))
        if self.batch is not None and self.batch > self.window:
            words = f"batch ({self.batch}) must not be more than window ({self.window}), which counts readings"
            conflicts.append(Conflict(("batch",), ("batch", "window"), words))
        return conflicts
