"""A delivery: what becomes of one published message, to be awaited in a loop or waited for in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial

from gateway.client.errors import CalledFromCallback, NotDelivered


class Outcome(StrEnum):
    """The state of a delivery; all but the first are final."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"  # by the broker; at QoS 0: written to the socket
    REJECTED = "rejected"  # no broker will ever take it; it is in the quarantine or in the ledger
    DROPPED = "dropped"  # given up because of a bound, a fault of the disk, or the end of a client without a store


KEPT = "closed; it stays in the store for the next run"
"""The reason of a delivery that is still pending when its client is closed."""

_DROPS = frozenset({"full", "count", "too-old", "no-space", "disk-error", "damaged", "discarded", "closed"})
"""Reasons for which the outbox, and not a broker, gives a message up."""

_waiting = threading.Lock()
"""Held for a moment by whoever begins to wait; one for all, as a lock for each would cost more than a delivery."""


class Delivery:
    """What becomes of one message. Made for each, so as cheap as can be: nothing waits until somebody does.

    `id` is the message's number in the outbox, unique for ever in its store; None until the client's loop has taken the
    message in. `state` and `reason` change once, from any state of PENDING to the end.
    """

    __slots__ = ("_waiters", "id", "reason", "state")

    def __init__(self, id: int | None = None) -> None:  # noqa: A002 - it is the id
        self.id = id
        self.state = Outcome.PENDING
        self.reason: str | None = None
        self._waiters: list[Callable[[], object]] | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more will be heard of it. A message that is kept for the next run is done, and pending."""
        return self.state is not Outcome.PENDING or self.reason is not None

    def __await__(self) -> Generator[object, None, Outcome]:
        """Wait until it is done, and return the outcome; never raises. To cancel this does not cancel the message."""
        if not self.done:
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._tell(partial(_settle, told))
            yield from told
        return self.state

    def wait(self, timeout: float | None = None) -> Outcome:
        """Block this thread until it is done, `timeout` seconds at most, and return the outcome so far.

        Raises CalledFromCallback on a thread that runs an event loop, which it would stop.
        """
        if not self.done:
            if _loop() is not None:
                raise CalledFromCallback("wait() would stop the event loop of this thread; write: await delivery")
            told = threading.Event()
            self._tell(told.set)
            told.wait(timeout)
        return self.state

    def result(self) -> None:
        """Return if it is acknowledged. Raises NotDelivered, with outcome and reason, if it is not (yet)."""
        if self.state is not Outcome.ACKNOWLEDGED:
            raise NotDelivered(self.state, self.reason)

    def __repr__(self) -> str:
        return f"<Delivery {self.id}: {self.state}{f' ({self.reason})' if self.reason else ''}>"

    def _tell(self, call: Callable[[], object]) -> None:
        """Have `call` called once it is done, or now if it is."""
        with _waiting:
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(call)
        if self.done:  # it may have ended on another thread just before, without seeing this one
            self._wake()

    def _end(self, outcome: Outcome, reason: str | None) -> None:
        self.state = outcome
        self.reason = reason
        if self._waiters is not None:
            self._wake()

    def _wake(self) -> None:
        with _waiting:
            waiters, self._waiters = self._waiters or [], None
        for call in waiters:
            call()


class Deliveries:
    """The deliveries that are not done, by id. Belongs to the client's loop."""

    def __init__(self) -> None:
        self.on_done: Callable[[Delivery], None] | None = None
        """Called with each that ends; also with those of an earlier run."""
        self._open: dict[int, Delivery] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, id: int, delivery: Delivery) -> None:  # noqa: A002 - it is the id
        """Remember a delivery whose message the outbox has taken in."""
        delivery.id = id
        self._open[id] = delivery

    def ended(self, ids: Sequence[int], reason: str | None) -> None:
        """End these: None means acknowledged, anything else is the word of the ledger or of the quarantine."""
        outcome = Outcome.ACKNOWLEDGED if reason is None else Outcome.DROPPED if reason in _DROPS else Outcome.REJECTED
        take, tell = self._open.pop, self.on_done
        for one in ids:
            delivery = take(one, None)
            if delivery is None:
                if tell is None:
                    continue
                delivery = Delivery(one)
            delivery._end(outcome, reason)  # noqa: SLF001
            if tell is not None:
                tell(delivery)

    def close(self, kept: bool) -> None:
        """End all that is left: kept for the next run, or dropped."""
        left, self._open = self._open, {}
        for delivery in left.values():
            if kept:
                delivery._end(Outcome.PENDING, KEPT)  # noqa: SLF001
            else:
                delivery._end(Outcome.DROPPED, "closed")  # noqa: SLF001
                if self.on_done is not None:
                    self.on_done(delivery)


def _loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs on this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(told: asyncio.Future[None]) -> None:
    """Tell a future, on whatever thread this is."""
    loop = told.get_loop()
    if loop is _loop():
        _set(told)
    else:
        with suppress(RuntimeError):  # that loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_set, told)


def _set(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
