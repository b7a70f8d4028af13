"""What the uplink tells is passed on: events to iterators and callbacks, messages to their subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.client.events import Connected, ConnectionLost, Events, Reconnecting
from gateway.client.incoming import Incoming
from gateway.client.options import ClientOptions
from gateway.mqtt import Message

T = TypeVar("T")


class Telling:
    """The observer of a client's uplink. A callback that fails is logged, and harms nothing."""

    def __init__(self, said: ClientOptions, incoming: Incoming, logger: Any) -> None:
        self.linked: Connected | None = None
        """The link that there is."""
        self._incoming = incoming
        self._logger = logger
        self._on_connected = self.careful(said.on_connected, "on_connected")
        self._on_lost = self.careful(said.on_lost, "on_lost")
        self._on_reconnecting = self.careful(said.on_reconnecting, "on_reconnecting")
        self._iterators: list[Events] = []
        self._waiting: list[asyncio.Future[None]] = []  # for a link

    def careful(self, call: Callable[[T], object] | None, name: str) -> Callable[[T], None] | None:
        """Return a function that logs what `call` raises."""
        if call is None:
            return None

        def told(value: T) -> None:
            try:
                call(value)
            except Exception:  # the boundary: whatever the program's function does wrong
                self._logger.exception(f"client: {name} has failed")

        return told

    def events(self) -> Events:
        """Return an iterator over the events from now on; begins with the link that there is."""
        events = Events()
        if self.linked is not None:
            events.put(self.linked)
        self._iterators.append(events)
        return events

    async def news(self) -> None:
        """Wait until there is a link, or an end of all."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)

    def close(self) -> None:
        """End all iterations, and wake who waits for a link."""
        self.linked = None
        for events in self._iterators:
            events.close()
        self._wake()

    # ---- what the uplink tells

    def connected(self, broker: str, protocol: str, session_present: bool) -> None:
        """A link is active now."""
        self.linked = Connected(broker, protocol, session_present)
        self._tell(self.linked, self._on_connected)
        self._wake()

    def lost(self, broker: str, reason: str) -> None:
        """The active link is gone."""
        self.linked = None
        self._tell(ConnectionLost(broker, reason), self._on_lost)

    def reconnecting(self, broker: str, delay: float, reason: str) -> None:
        """The next attempt comes in `delay` seconds."""
        self._tell(Reconnecting(broker, delay, reason), self._on_reconnecting)

    def received(self, message: Message) -> None:
        """A message has come."""
        self._incoming.received(message)

    def roomy(self) -> bool:
        """Say whether more messages can be taken."""
        return not self._incoming.brake.held

    def _tell(self, event: T, call: Callable[[T], None] | None) -> None:
        for events in self._iterators:
            events.put(event)  # type: ignore[arg-type]
        if call is not None:
            call(event)

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
