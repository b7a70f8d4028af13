"""How messages get into the outbox, and their deliveries to whoever published them; both faces share it."""

from __future__ import annotations

from typing import TypeAlias

from gateway.client.checks import Checked
from gateway.client.delivery import Deliveries, Delivery
from gateway.outbox import Outbox
from gateway.reading import Publication

Payload: TypeAlias = bytes | bytearray | memoryview | str | None


class Intake:
    """Belongs to the client's loop, except for `check`, which any thread may call."""

    def __init__(self, *, late: bool) -> None:
        """`late`: messages are sent before they are stored."""
        self.deliveries = Deliveries()
        self.check = Checked(late=late).publication
        self._outbox: Outbox

    def open(self, outbox: Outbox) -> None:
        """Take messages from now on."""
        self._outbox = outbox
        self._accept = outbox.accept

    def take(self, publication: Publication, delivery: Delivery) -> Delivery:
        """Take a checked message in. Raises OutboxFull."""
        self.deliveries.add(self._accept(publication), delivery)
        return delivery

    async def stored(self, delivery: Delivery) -> None:
        """Wait until a message survives the power."""
        if delivery.id is not None:
            await self._outbox.stored(delivery.id)

    def left(self) -> tuple[int, int]:
        """Return how many messages, and how many bytes of topics and payloads, can be taken in without OutboxFull."""
        return self._outbox.left()
