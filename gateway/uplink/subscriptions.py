"""What an uplink has subscribed to: kept over links and brokers, and asked for again wherever it is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from gateway.mqtt import Connection, ConnectionLost, Subscription

AT_ONCE = 50
"""Filters in one SUBSCRIBE."""


class Subscriptions:
    """The filters of one uplink. Asking waits for a link and its answer; cancelling it takes the question back."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Subscription, int | None]] = {}  # granted, or to be asked for; and its number
        self._wanted: set[str] = set()  # to be asked for on the next link, whatever its broker remembers
        self._given_up: set[str] = set()  # while nobody could be told
        self._connection: Connection | None = None
        self._linked = asyncio.Event()

    def __len__(self) -> int:
        return len(self._known)

    def want(self, subscriptions: Sequence[Subscription]) -> None:
        """Ask for these on every link from the next one on."""
        for subscription in subscriptions:
            self._known[subscription.filter] = subscription, None
            self._wanted.add(subscription.filter)

    async def add(self, subscriptions: Sequence[Subscription], identifier: int | None = None) -> list[int]:
        """Subscribe; return, for each, the QoS granted, or why not (0x80 and above). Raises ValueError."""
        return await self._ask(subscriptions, identifier)

    async def remove(self, filters: Sequence[str]) -> list[int]:
        """Unsubscribe, at once where there is no link; return the broker's reasons (none before MQTT 5)."""
        for name in filters:
            self._known.pop(name, None)
        if self._connection is not None:
            try:
                return await self._connection.unsubscribe(list(filters))
            except ConnectionLost:
                pass
        self._given_up.update(filters)
        return [0] * len(filters)

    async def renew(self, connection: Connection, known: bool) -> dict[str, int]:
        """Use this link from now on, and ask for everything again unless the broker has it.

        Returns the filters that the broker refused this time, with its reasons. Raises ConnectionLost.
        """
        self._connection = connection
        refused: dict[str, int] = {}
        given_up, self._given_up = self._given_up - self._known.keys(), set()
        if known and given_up:
            await connection.unsubscribe(sorted(given_up))
        asked = [one for name, one in self._known.items() if not known or name in self._wanted]
        for some, identifier in _portions(asked):
            answers = await connection.subscribe(some, _understood(connection, identifier))
            refused |= {one.filter: answer for one, answer in zip(some, answers, strict=True) if answer >= 0x80}
        self._wanted.clear()
        self._linked.set()
        return refused

    def gone(self) -> None:
        """There is no link now."""
        self._connection = None
        self._linked.clear()

    async def _ask(self, subscriptions: Sequence[Subscription], identifier: int | None) -> list[int]:
        while True:
            await self._linked.wait()
            connection = self._connection
            if connection is None:
                continue
            try:
                answers: list[int] = []
                for some, number in _portions([(subscription, identifier) for subscription in subscriptions]):
                    answers += await connection.subscribe(some, _understood(connection, number))
            except ConnectionLost:
                if self._connection is connection:
                    self.gone()
                continue
            for subscription, answer in zip(subscriptions, answers, strict=True):
                if answer < 0x80:
                    self._known[subscription.filter] = subscription, identifier
            return answers


def _portions(known: Sequence[tuple[Subscription, int | None]]) -> Iterator[tuple[list[Subscription], int | None]]:
    """Return what goes into one SUBSCRIBE each: it has one identifier for all of its filters."""
    for identifier, some in groupby(known, key=itemgetter(1)):
        same = [subscription for subscription, _ in some]
        for start in range(0, len(same), AT_ONCE):
            yield same[start : start + AT_ONCE], identifier


def _understood(connection: Connection, identifier: int | None) -> int | None:
    """Return the subscription identifier as far as this broker knows such a thing."""
    known = connection.protocol == "5" and connection.limits.subscription_identifier_available
    return identifier if known else None
