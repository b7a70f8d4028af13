"""A feed: an uplink's view of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from gateway.outbox.log import Account, Follower, Log
from gateway.reading import Reading

if TYPE_CHECKING:
    from gateway.outbox.outbox import Outbox


class Feed:
    """What one uplink has to deliver, oldest first. Three fates for what was taken: acknowledged, left, rejected."""

    def __init__(self, outbox: Outbox, follower: Follower, log: Log) -> None:
        self._outbox = outbox
        self._follower = follower
        self._log = log
        self.account: Account = follower.account
        self.refresh = outbox.refresh
        self.wall = outbox.wall
        self.age = outbox.age

    def on_ready(self, call: Callable[[], None]) -> None:
        """Have `call` called when there may be something to take: once for many readings, never from within `take`."""
        self._follower.on_ready = call

    def take(self, limit: int) -> list[Reading]:
        """Return up to `limit` readings to send now; fewer, or none, when the rest has to come from the card first."""
        readings = self._follower.take(limit)
        start = self._follower.wanted()
        if start is not None:
            self._outbox.load(self._follower, start)
        return readings

    def acknowledged(self, ids: list[int]) -> None:
        """A broker has taken these over."""
        self._log.acknowledge(self._follower, ids)
        self._outbox.progress()

    def left(self, ids: Iterable[int]) -> None:
        """The link was lost: send these again."""
        self._follower.left(ids)

    def rejected(self, ids: Sequence[int], reason: str) -> None:
        """No broker of this uplink will ever take these: into the ledger with them."""
        self._outbox.reject(self._follower, ids, reason)
