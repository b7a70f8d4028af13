"""Which subscribers a message is for: a pure table of filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from zlib import crc32

from gateway.mqtt import Message
from gateway.mqtt.fields import LARGEST_VARINT
from gateway.mqtt.packets import Subscription
from gateway.mqtt.topics import matches

Take: TypeAlias = Callable[[Message], None]

_REMEMBERED = 4096  # topics whose subscribers are kept at hand
_NOBODY: tuple[Take, ...] = ()


@dataclass(slots=True)
class Route:
    """One filter that the broker has been asked for, and who wants what it brings."""

    subscription: Subscription
    identifier: int
    takes: tuple[Take, ...] = field(default=_NOBODY)


class Routes:
    """The filters of one client.

    A broker of MQTT 5 says which subscription a message is for, because a copy may come for each that overlaps. Its
    number is made of the filter, so that a broker that has kept the session of an earlier run cannot mean another one.
    Without it, the topic decides.
    """

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._by_identifier: dict[int, Route] = {}
        self._found: dict[str, tuple[Take, ...]] = {}

    def __contains__(self, filter: str) -> bool:  # noqa: A002 - MQTT's own word
        return filter in self._routes

    def add(self, wanted: Subscription, take: Take) -> Route:
        """Have messages for a filter given to `take`, once however often it is added; return what to ask for.

        The highest QoS that anybody wants is asked for, and otherwise what the last one wants.
        """
        route = self._routes.get(wanted.filter)
        if route is None:
            route = Route(wanted, self._identifier(wanted.filter))
            self._routes[wanted.filter] = route
            self._by_identifier[route.identifier] = route
        elif wanted.qos >= route.subscription.qos:
            route.subscription = wanted
        if take not in route.takes:
            route.takes += (take,)
        self._found.clear()
        return route

    def remove(self, filter: str, take: Take) -> bool:  # noqa: A002
        """Give no more to `take`; return whether nobody wants the filter any more."""
        route = self._routes.get(filter)
        if route is None or take not in route.takes:
            return False
        route.takes = tuple(one for one in route.takes if one != take)
        self._found.clear()
        if route.takes:
            return False
        del self._routes[filter]
        del self._by_identifier[route.identifier]
        return True

    def find(self, topic: str, properties: Mapping[str, Any]) -> tuple[Take, ...]:
        """Return who gets a message, each once."""
        if properties and (identifiers := properties.get("subscription_identifiers")):
            return self._meant(identifiers)
        found = self._found.get(topic)
        return self._matching(topic) if found is None else found

    def _meant(self, identifiers: list[int]) -> tuple[Take, ...]:
        if len(identifiers) == 1:
            route = self._by_identifier.get(identifiers[0])
            return _NOBODY if route is None else route.takes
        routes = (self._by_identifier.get(one) for one in identifiers)
        return tuple(dict.fromkeys(take for route in routes if route is not None for take in route.takes))

    def _matching(self, topic: str) -> tuple[Take, ...]:
        takes: dict[Take, None] = {}
        for name, route in self._routes.items():
            if matches(name, topic):
                takes |= dict.fromkeys(route.takes)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        found = self._found[topic] = tuple(takes)
        return found

    def _identifier(self, filter: str) -> int:  # noqa: A002
        identifier = crc32(filter.encode()) % LARGEST_VARINT + 1
        while identifier in self._by_identifier:
            identifier = identifier % LARGEST_VARINT + 1
        return identifier
