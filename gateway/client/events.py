"""What a client tells of its links."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Self, TypeAlias

KEPT = 1000
"""Events that wait for a program that does not take them; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a link: messages flow."""

    broker: str  # its URL
    protocol: str  # "3.1" | "3.1.1" | "5"
    session_present: bool  # the broker knows this client's subscriptions from before


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The link is gone. Messages wait until there is one again."""

    broker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """An attempt has failed, or a link was lost; the next attempt comes in `delay` seconds."""

    broker: str
    delay: float
    reason: str


Event: TypeAlias = Connected | ConnectionLost | Reconnecting


class Events:
    """The events of one client from now on: `async for event in client.events()`. Ends with the client."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Add one; never waits."""
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration after what is there."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()
