"""Messages of an MQTT broker, such as those of Zigbee2MQTT, Tasmota or ESPHome: each is a reading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Literal, Self
from urllib.parse import urlsplit

import structlog
from pydantic import Field, model_validator

from adapters.frames import topics as naming
from adapters.text_lines import Text
from gateway import (
    Broker,
    BrokerKeys,
    Client,
    Connected,
    Device,
    DeviceError,
    Duration,
    Message,
    Silent,
    Size,
    SubscriptionRefused,
)

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# What the client says of its link, the gateway says of the device.
_QUIET = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Mqtt(Text):
    """Reads what others publish at a broker: each message is a reading."""

    broker: BrokerKeys = Field(
        description='The broker: its URL, as "mqtt://localhost", or a table with url, username, password, tls and what '
        "else the brokers of an uplink have."
    )
    topics: list[str] | dict[str, str] = Field(
        min_length=1,
        description="Topic filters. As a table, each with the name of its metrics, in which {1} is what its first "
        'wildcard stands for: { "sensors/+/+" = "{1}_{2}" }. Default: what its wildcards stand for, joined with dots.',
    )
    qos: Literal[0, 1, 2] = Field(default=1, description="With what QoS it subscribes.")
    retained: Literal["skip", "take"] = Field(
        default="skip",
        description="What becomes of messages that the broker has kept: they are old, and would get the time at which "
        "they come.",
    )
    keep_session: Duration | None = Field(
        default=None,
        ge=1,
        le=0xFFFF_FFFE,
        description="For how long the broker keeps messages while the gateway is away; needs time, for what is late, "
        "and a client_id in the table of the broker. Default: it keeps nothing.",
    )
    silent_after: Duration | None = Field(
        default=None, gt=0, description="Without a message for so long the device counts as silent, and is tried again."
    )
    max_payload: Size = Field(default=65_536, ge=16, description="A longer message is thrown away and counted.")

    @model_validator(mode="after")
    def _subscribable(self) -> Self:
        seen: list[str] = []
        for one, template in self.templates.items():
            naming.check_filter(one)
            naming.check_template(one, template)
            for other in seen:
                if naming.overlap(one, other):
                    raise ValueError(f'topics: messages could come twice, for "{other}" and for "{one}"')
            seen.append(one)
        if len(seen) < len(self.topics):
            raise ValueError("topics: a filter is there twice")
        if self.keep_session is not None and (self.time is None or self.broker.client_id is None):
            raise ValueError("keep_session needs time, and a client_id in the table of the broker")
        try:
            self.client(lambda message: None)
        except (TypeError, ValueError) as error:
            raise ValueError(f"broker: {error}") from None
        return self

    @cached_property
    def templates(self) -> dict[str, str]:
        """The filters, each with the name of its metrics."""
        given = self.topics
        return dict(given) if isinstance(given, dict) else {one: naming.usual(one) for one in given}

    def hears(self, broker: str, topic: str) -> bool:
        """Say whether it takes in what is published there, as far as two URLs tell that they are one broker."""
        return _place(broker) == _place(str(self.broker.address)) and any(
            naming.matches(one, topic) for one in self.templates
        )

    def client(self, take: Callable[[Message], None]) -> Client:
        """Return a client that gives each message to `take`. Raises TypeError and ValueError, in words."""
        keys, secret = self.broker, self.broker.password
        return Client(
            Broker(
                keys.url,
                username=keys.username,
                password=secret.get_secret_value() if secret else None,
                tls=keys.tls.options if keys.tls else None,
                protocol=keys.protocol,
                client_id=keys.client_id,
                profile=keys.profile,
                network=keys.network,
            ),
            clean_start=self.keep_session is None,
            session_expiry=None if self.keep_session is None else int(self.keep_session),
            on_message=take,
            logger=_QUIET,
        )

    async def run(self, device: Device) -> None:
        """Subscribe, and take in what comes. Raises DeviceError when there is no link, or none any more."""
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()
        limit: asyncio.Timeout | None = None
        take = self.taker(device)

        def careful(message: Message) -> None:
            if limit is not None and self.silent_after is not None:
                with suppress(RuntimeError):  # it has just expired
                    limit.reschedule(loop.time() + self.silent_after)
            try:
                if (waiting := take(message)) is not None:
                    client.hold(waiting)
            except Exception as error:  # noqa: BLE001 - a bug, carried to whoever waits
                if not broken.done():
                    broken.set_exception(error)

        client = self.client(careful)
        subscribing: asyncio.Task[None] | None = None
        try:
            async with client, asyncio.TaskGroup() as tasks:
                tasks.create_task(_watch(client))
                # A cancellation would unsubscribe: a session that is kept goes on, however short this was.
                subscribing = asyncio.create_task(self._subscribe(client))
                await asyncio.shield(subscribing)
                if self.silent_after is None:  # one that is expected to speak is there when it speaks
                    device.online()
                try:
                    async with asyncio.timeout(self.silent_after) as limit:
                        await broken
                except TimeoutError:
                    raise Silent(f"nothing from {self.broker.url} for {self.silent_after:g} s") from None
        finally:
            if subscribing is not None:
                await asyncio.gather(subscribing, return_exceptions=True)  # it has ended with the client

    def taker(self, device: Device) -> Callable[[Message], asyncio.Future[None] | None]:
        """Return a function that takes a message in, and says what to wait for before the next one, if anything."""
        decode = self.decoder()
        named = naming.naming(self.templates, "value" if self.format == "value" else None)

        def take(message: Message) -> asyncio.Future[None] | None:
            if message.retain and self.retained == "skip":
                return None
            payload = message.payload
            if len(payload) > self.max_payload:
                device.skip(f"a message of more than {self.max_payload} bytes")
                return None
            try:
                values = decode(payload)
                time = self.time_of(values, device)
                if not values:
                    raise ValueError("no values in it")
                values = named(message.topic, values)
            except ValueError as error:
                device.skip(str(error), payload)
                return None
            waiting = device.take_in(values, time)
            return None if waiting is None else asyncio.ensure_future(waiting)

        return take

    async def _subscribe(self, client: Client) -> None:
        """Subscribe, once there is a link. Raises DeviceError when the broker refuses."""
        handling = 2 if self.retained == "skip" else 0 if self.keep_session is None else 1
        if (await client.connected()).protocol != "5":
            handling = 0  # no other can be asked for
        for one in self.templates:
            try:
                await client.subscribe(one, qos=self.qos, retain_handling=handling)
            except SubscriptionRefused as error:
                raise DeviceError(f"{self.broker.url}: {error}") from None


async def _watch(client: Client) -> None:
    """Raise DeviceError when there is no link, or none any more: to try again is the gateway's part."""
    async for event in client.events():
        if not isinstance(event, Connected):
            raise DeviceError(f"{event.broker}: {event.reason}")


def _place(url: str) -> tuple[str, int | None, str]:
    """Return what tells one broker from another, as far as a URL can tell."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return ("localhost" if host in _LOOPBACK else host, parts.port, parts.path if parts.scheme == "unix" else "")
