"""Rates as people write them in a config file: "50/s", "10/m", "10KB/s"."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

from gateway.config.problems import refuse
from gateway.units import parse_size

RATE_PATTERN = r"^([0-9]{1,9}(?:\.[0-9]{1,9})?)(B|kB|KB|MB|GB|KiB|MiB|GiB)?/(s|m|h)$"
_HINT = 'write "50/s", "10/m" or "10KB/s"'
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Rates(NamedTuple):
    """A limit of messages and one of bytes, each a second; None is no limit."""

    messages: float | None = None
    bytes: float | None = None


def parse_rate(text: str) -> Rates:
    """Return what `text` stands for, one of both. Raises ValueError if it is no rate, or none at all."""
    match = re.fullmatch(RATE_PATTERN, text)
    if match is None:
        raise ValueError(f'"{text}" is not a rate; {_HINT}')
    number, size, unit = match.groups()
    seconds = _SECONDS[unit]
    count = float(number) if size is None else parse_size(number + size)
    if not count:
        raise ValueError("must be more than 0: nothing would ever be sent")
    return Rates(messages=count / seconds) if size is None else Rates(bytes=count / seconds)


def _rates(value: Any) -> Any:
    if value is None or isinstance(value, Rates):
        return value
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise refuse("rate", f"must be a rate, or an array of two of them; {_HINT}")
    try:
        rates = [parse_rate(text) for text in texts]
    except ValueError as error:
        raise refuse("rate", str(error)) from None
    messages = [rate.messages for rate in rates if rate.messages is not None]
    sizes = [rate.bytes for rate in rates if rate.bytes is not None]
    if len(messages) > 1 or len(sizes) > 1:
        raise refuse("rate", "has two rates of one kind; one may be of messages, the other of bytes")
    return Rates(next(iter(messages), None), next(iter(sizes), None))


_TEXT = {"type": "string", "pattern": RATE_PATTERN}
RateLimit: TypeAlias = Annotated[
    Rates | None,
    BeforeValidator(_rates),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}]}),
]
"""A field of this type is written "50/s", or ["50/s", "10KB/s"]; in Python it is `Rates`."""
