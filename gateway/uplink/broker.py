"""A broker as an uplink sees it: how to connect there, and what is known of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.mqtt import Address, Options


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a broker knows this client by, for one connect."""

    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


Fresh: TypeAlias = Callable[[], Credentials | Awaitable[Credentials]]
"""Asked before each connect, for brokers whose passwords expire. What it raises counts as a failed attempt."""


@dataclass(frozen=True, slots=True)
class Broker:
    """An endpoint in the config, and how to connect there."""

    address: Address
    options: Options
    profile: str = "generic"  # what it will take, where it cannot say so itself: see `profiles`
    credentials: Fresh | None = None

    @property
    def insecure(self) -> bool:
        """Whether any certificate is taken for any name, which is named wherever the broker is."""
        return bool(self.options.tls and self.options.tls.insecure)

    def __str__(self) -> str:
        return f"{self.address} (insecure: its certificate is not checked)" if self.insecure else str(self.address)


State: TypeAlias = Literal["active", "probation", "away", "untried"]


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What is known of one broker: `active` carries, `probation` is linked and watched, `away` failed lately."""

    url: str
    state: State
    reason: str | None  # why it is away, in words
    protocol: str | None  # that it answered to
    insecure: bool
    next_attempt: float | None  # seconds until then, if it is being waited for
