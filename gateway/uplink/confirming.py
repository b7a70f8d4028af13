"""Messages that have come in, on a session that is kept: each is confirmed once the outbox knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from gateway.outbox import Feed


class Confirming:
    """Confirms all that one round of the loop has brought together.

    `received` tells which identifiers of QoS 2 the broker may use again; `confirm` sends the answers.
    """

    def __init__(self, feed: Feed, received: Callable[[], set[int]], confirm: Callable[[Sequence[int]], None]) -> None:
        self._feed = feed
        self._received = received
        self._confirm = confirm
        self._waiting: list[int] = []  # packet identifiers
        self._noting = False  # of these, one belongs to QoS 2, and the outbox has to know first

    def soon(self, packet_id: int, *, noted: bool) -> None:
        """Confirm this one; if `noted`, only once a restart would know of it."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._now)
        self._waiting.append(packet_id)
        self._noting = self._noting or noted

    def _now(self) -> None:
        identifiers, self._waiting = self._waiting, []
        noting, self._noting = self._noting, False
        if noting:
            session = {**self._feed.session, "received": sorted(self._received())}
            self._feed.remember(session, partial(self._confirm, identifiers))
        else:
            self._confirm(identifiers)
