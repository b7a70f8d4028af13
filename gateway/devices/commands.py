"""Whether a command may be carried out: what it says, how old it is, whether it came before. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from gateway.adapter import Metric
from gateway.devices.metrics import HIGHEST, LONGEST_TEXT, LOWEST
from gateway.reading import Value

LARGEST = 8192
"""Bytes of a command."""
LONGEST_ID = 256
"""Characters of its id."""
AHEAD = 5.0
"""Seconds that the sender's clock may be before the gateway's."""
DIGITS = 12
"""Significant digits of a value that is scaled."""
REMEMBERED = 1000
"""Commands with an id of which it is known what became of them."""

_NUMBERS = ("measurement", "total", "total_increasing")
_BINARY: dict[object, bool] = {True: True, False: False, "true": True, "false": False}  # 1 and 0 are equal to these
_BINARY |= {"on": True, "off": False, "1": True, "0": False}

T = TypeVar("T")


class Asked(NamedTuple):
    """What a command says; times are UTC seconds."""

    content: dict[str, Any]  # all of it: {"value": ...}, or what a gateway's command has
    id: str | None = None
    time: float | None = None  # when it was sent
    expires: float | None = None


class Arrival(NamedTuple):
    """How a command came."""

    retained: bool = False
    again: bool = False  # the broker says that it may have delivered it before
    kept: bool = False  # over a session that the broker keeps while the gateway is away
    left: float | None = None  # seconds until it expires, by the broker's count


def parse(payload: bytes, key: str = "value") -> Asked:
    """Return what a payload says: `{"<key>": ..., "id": ..., "ts": ..., "expires": ...}`, or only what `key` has.

    `ts` and `expires` are UTC milliseconds, as everywhere. Text need not be in quotes. Raises ValueError.
    """
    if len(payload) > LARGEST:
        raise ValueError(f"longer than {LARGEST} bytes")
    text = payload.strip()
    if not text:
        raise ValueError("there is nothing in it")
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError:
        if text[:1] in (b"{", b"["):
            raise ValueError("not valid JSON") from None
        try:
            content = text.decode()
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
    if not isinstance(content, dict):
        return Asked({key: content})
    if key not in content:
        raise ValueError(f'it has no "{key}"')
    return Asked(content, _id(content.get("id")), _time("ts", content), _time("expires", content))


def patience(asked: Asked, arrival: Arrival, now: float | None, started: float, max_age: float) -> float:
    """Return for how many seconds from now on it may be begun. Raises ValueError with the reason why it may not.

    `now` is UTC, None while the clock is not set; `started` is when this run of the gateway began, by the same clock.
    """
    if arrival.retained:
        raise ValueError("it is retained: it would come again with every connection")
    if arrival.kept and asked.time is None and asked.expires is None and arrival.left is None:
        raise ValueError("the broker may have kept it for long, so it needs ts or expires")
    if arrival.again and (asked.id is None or asked.time is None):
        raise ValueError("delivered again: without id and ts nobody knows whether it was carried out")
    left = [max_age]
    if arrival.left is not None:
        left.append(arrival.left)
    if asked.time is not None or asked.expires is not None:
        if now is None:
            raise ValueError("the gateway's clock is not set, so nobody knows how old it is")
        if asked.time is not None:
            left.append(asked.time + max_age - now)
            _raise_unless_of_now(asked.time, now, started, max_age)
        if asked.expires is not None:
            left.append(asked.expires - now)
    if (shortest := min(left)) <= 0:
        raise ValueError("it has expired")
    return shortest


def fit(value: object, metric: Metric) -> Value:
    """Return a value that `metric` can be set to, as the device has it: before scale and offset. Raises ValueError."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError("neither number nor text nor true or false")
    match metric.kind:
        case "binary":
            if not isinstance(known := _binary(value, otherwise=""), bool):
                raise ValueError("neither true nor false")
            return known
        case "enum":
            if value not in (metric.options or ()):
                raise ValueError(f"none of {', '.join(metric.options or ())}")
        case "text":
            value = str(value)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ValueError(f"text longer than {LONGEST_TEXT} characters")
    numeric = metric.kind in _NUMBERS or (metric.min, metric.max, metric.scale, metric.offset) != (None, None, 1.0, 0.0)
    if isinstance(value, bool | str):
        if numeric:
            raise ValueError("not a number")
        return value
    if not LOWEST <= value <= HIGHEST:  # nor is it infinite, or not a number
        raise ValueError("not a number that can be carried")
    if metric.min is not None and value < metric.min:
        raise ValueError(f"below {metric.min:g}, which is the least")
    if metric.max is not None and value > metric.max:
        raise ValueError(f"above {metric.max:g}, which is the most")
    return _unscaled(value, metric)


def published(value: Value, metric: Metric) -> Value:
    """Return a value of the device as it is published: as its kind is, after scale and offset."""
    if metric.kind == "binary":
        return _binary(value, otherwise=value)
    if isinstance(value, bool | str) or (metric.scale, metric.offset) == (1.0, 0.0):
        return value
    return float(f"{value * metric.scale + metric.offset:.{DIGITS}g}")


class Answered(Generic[T]):
    """What became of the newest commands that had an id, so that none is carried out twice."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable) -> T | None:
        """Return what is known of this one, None if nothing is."""
        return self._known.get(key)

    def put(self, key: Hashable, known: T) -> None:
        """Remember this one instead of the oldest."""
        self._known[key] = known
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _binary(value: Value, otherwise: Value) -> Value:
    return _BINARY.get(value.lower() if isinstance(value, str) else value, otherwise)


def _unscaled(value: float, metric: Metric) -> Value:
    if (metric.scale, metric.offset) == (1.0, 0.0):
        return value
    if not metric.scale:
        raise ValueError("the config multiplies it by 0")
    number = float(f"{(value - metric.offset) / metric.scale:.{DIGITS}g}")  # 21.7 / 0.1 is 216.99999999999997
    return int(number) if number.is_integer() and LOWEST <= number <= HIGHEST else number


def _raise_unless_of_now(time: float, now: float, started: float, max_age: float) -> None:
    if time > now + AHEAD:
        raise ValueError(f"sent {time - now:.0f} s in the future: one of the two clocks is wrong")
    if time + max_age <= now:
        raise ValueError(f"{now - time:.0f} s old, and may be {max_age:g} s old")
    if time < started:
        raise ValueError("sent before the gateway started, so nobody knows whether it was carried out")


def _id(given: object) -> str | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError("its id is neither text nor an integer")
    if not 0 < len(str(given)) <= LONGEST_ID:
        raise ValueError(f"its id is not of 1 to {LONGEST_ID} characters")
    return str(given)


def _time(name: str, content: dict[str, Any]) -> float | None:
    given = content.get(name)
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not -inf < given < inf:
        raise ValueError(f"its {name} is no number of milliseconds")
    return given / 1000
