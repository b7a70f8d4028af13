"""Checks of what a program hands in: each error names the parameter, its value and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from gateway.mqtt.fields import LARGEST_VARINT
from gateway.mqtt.packets import Subscription
from gateway.mqtt.properties import PUBLISH, encode_properties
from gateway.mqtt.topics import check_filter, check_topic
from gateway.reading import Publication

Check = Callable[[str, Any], None]
"""Takes the name of a parameter and its value. Raises TypeError or ValueError."""

_REMEMBERED = 4096  # topics that were found to be right
_OURS = {"topic_alias", "subscription_identifiers"}  # properties of PUBLISH that the engine or the broker sets


@dataclass(frozen=True)
class Number:
    """A number within bounds, both included; `unit` as in "seconds", "" for a mere count."""

    low: float
    high: float | None = None
    unit: str = ""
    whole: bool = False
    optional: bool = False

    def __call__(self, name: str, value: Any) -> None:
        """Check. Raises TypeError or ValueError."""
        if value is None and self.optional:
            return
        number = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        if not number or isinstance(value, bool):
            raise TypeError(f"{name} must be {self._words}, not {value!r}")
        if not isfinite(value) or value < self.low or (self.high is not None and value > self.high):
            raise ValueError(f"{name} must be {self._words}, not {value!r}")

    @property
    def _words(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        of = f" of {self.unit}" if self.unit else ""
        bounds = f"from {self.low:g} to {self.high:.10g}" if self.high is not None else f"of at least {self.low:g}"
        return f"{kind}{of} {bounds}" + (", or None" if self.optional else "")


@dataclass(frozen=True)
class Kind:
    """A value of one of these types; `words` say which."""

    types: tuple[type, ...]
    words: str
    optional: bool = True

    def __call__(self, name: str, value: Any) -> None:
        """Check. Raises TypeError, in which a value that may be a secret is not shown."""
        if not isinstance(value, self.types) and not (value is None and self.optional):
            raise TypeError(f"{name} must be {self.words}{', or None' if self.optional else ''}, not {_kind(value)}")


@dataclass(frozen=True)
class OneOf:
    """One of a few words, or None if that is among them."""

    words: tuple[str | None, ...]

    def __call__(self, name: str, value: Any) -> None:
        """Check. Raises TypeError or ValueError."""
        if not isinstance(value, str) and value not in self.words:
            raise TypeError(f"{name} must be text, not {_kind(value)}")
        if value not in self.words:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, self.words))}, not {value!r}")


def flag(name: str, value: Any) -> None:
    """Take True and False only. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def flag_or_none(name: str, value: Any) -> None:
    """Take True, False and None only. Raises TypeError."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, not {value!r}")


def call(name: str, value: Any) -> None:
    """Take what can be called, or None. Raises TypeError."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be something that can be called, or None, not {value!r}")


def pairs(name: str, value: Any) -> None:
    """Take (text, text) pairs. Raises TypeError."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise TypeError(f"{name} must be a sequence of (name, text) pairs, not {value!r}")
    for pair in value:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise TypeError(f"{name} must be a sequence of (name, text) pairs, and one is {pair!r}")


QOS = Number(0, 2, whole=True)
TIMEOUT = Number(0, unit="seconds", optional=True)


def check_fields(made: object) -> None:
    """Check every field of a dataclass whose type is annotated with a check. Raises TypeError or ValueError."""
    for name, hint in get_type_hints(type(made), include_extras=True).items():
        if get_origin(hint) is Annotated:
            get_args(hint)[1](name, getattr(made, name))


class Checked:
    """Makes publications of what a program wants to publish. Knows the topics that it has seen to be right."""

    def __init__(self, *, late: bool = False) -> None:
        """`late`: messages are sent before they are stored, which QoS 2 cannot bear."""
        self._topics: set[str] = set()
        self._late = late

    def publication(
        self, topic: Any, payload: Any, qos: Any, retain: Any, properties: Mapping[str, Any] | None
    ) -> Publication:
        """Return a publication that MQTT can carry. Raises TypeError or ValueError."""
        # Every message comes by here: what is right already costs a comparison each.
        if topic.__class__ is not str or topic not in self._topics:
            self._check(topic)
        if payload.__class__ is not bytes:
            payload = as_bytes(payload)
        if qos.__class__ is not int or not 0 <= qos <= 2:
            QOS("qos", qos)
        if qos == 2 and self._late:
            raise ValueError(
                "qos 2 needs commit_interval=0, the default, in a client with a store: after a crash, the broker would "
                "remember messages that this client does not"
            )
        if retain is not False and retain is not True:
            flag("retain", retain)
        size = 0
        if properties is not None:
            properties, size = as_properties(properties)
        if len(payload) > 200_000_000:
            _check_size(topic, payload, size)
        return Publication(topic, payload, qos, retain, properties)

    def _check(self, topic: Any) -> None:
        if not isinstance(topic, str):
            raise TypeError(f"topic must be text, not {_kind(topic)}")
        try:
            check_topic(topic)
        except ValueError as error:
            raise ValueError(f"topic {topic[:100]!r}: {error}") from None
        if len(self._topics) >= _REMEMBERED:
            self._topics.clear()
        self._topics.add(topic)


def as_bytes(payload: Any) -> bytes:
    """Return a payload as bytes: text in UTF-8, None as nothing. Raises TypeError or ValueError."""
    if payload is None:
        return b""
    if isinstance(payload, str):
        try:
            return payload.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"payload cannot be written in UTF-8: {error}") from None
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    raise TypeError(f"payload must be bytes, bytearray, memoryview, text or None, not {_kind(payload)}")


def as_properties(properties: Any) -> tuple[dict[str, Any] | None, int]:
    """Return a copy of the MQTT 5 properties of a message, and their size in bytes. Raises TypeError or ValueError."""
    if not isinstance(properties, Mapping):
        raise TypeError(f"properties must be a mapping of names to values, not {_kind(properties)}")
    copy: dict[str, Any] = dict(properties)
    if not copy:
        return None, 0
    if ours := _OURS & copy.keys():
        raise ValueError(f"properties: {min(ours)} cannot be set by the sender")
    if "user_properties" in copy:
        pairs("properties: user_properties", copy["user_properties"])
        copy["user_properties"] = [tuple(pair) for pair in copy["user_properties"]]
    for name, value in copy.items():
        if not isinstance(value, _kinds(name)) or isinstance(value, bool):
            raise TypeError(f"properties: {name} must be {_words(name)}, not {value!r}")
    try:
        return copy, len(encode_properties(copy, PUBLISH))  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"properties: {error}") from None


def as_subscription(
    filter: Any,  # noqa: A002 - MQTT's own word
    qos: Any,
    no_local: Any,
    retain_as_published: Any,
    retain_handling: Any,
) -> Subscription:
    """Return a subscription that MQTT knows. Raises TypeError or ValueError."""
    if not isinstance(filter, str):
        raise TypeError(f"filter must be text, not {type(filter).__name__}")
    check_filter(filter)
    QOS("qos", qos)
    flag("no_local", no_local)
    flag("retain_as_published", retain_as_published)
    QOS("retain_handling", retain_handling)
    return Subscription(filter, qos, no_local, retain_as_published, retain_handling)


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "correlation_data": ((bytes,), "bytes"),
    "content_type": ((str,), "text"),
    "response_topic": ((str,), "text"),
    "user_properties": ((list,), "a list"),
    "message_expiry_interval": ((int,), "a whole number of seconds"),
    "payload_format_indicator": ((int,), "0 or 1"),
}


def _kinds(name: str) -> tuple[type, ...]:
    return _TYPES.get(name, ((object,), ""))[0]


def _words(name: str) -> str:
    return _TYPES.get(name, ((object,), "something else"))[1]


def _check_size(topic: str, payload: bytes, properties: int) -> None:
    # Topic length, packet identifier and the length of the properties come to at most 8 bytes.
    most = LARGEST_VARINT - 8 - len(topic.encode()) - properties
    if len(payload) > most:
        raise ValueError(f"payload has {len(payload)} bytes; MQTT carries at most {most} with this topic")


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__}"
