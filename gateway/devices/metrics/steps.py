"""What can be done with one value: each a pure function."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from gateway.devices.metrics.plain import HIGHEST, LOWEST, NOT_FINITE
from gateway.devices.metrics.plan import First, Then
from gateway.reading import Value
from gateway.scaling import scaled

_YES = frozenset({"on", "true", "yes", "1"})
_NO = frozenset({"off", "false", "no", "0"})


class Last(NamedTuple):
    """What was taken in last of a metric."""

    value: Value
    at: float  # seconds since boot
    flag: str | None


def fitted(value: Value, step: First) -> Value:
    """Return a device's value as what it is said to be, in the published unit. Raises ValueError with the reason."""
    if step.kind is not None:
        return _TO[step.kind](value, step)
    if isinstance(value, bool | str):
        return value
    value = scaled(value, step.scale, step.offset)
    if not -inf < value < inf:
        raise ValueError(NOT_FINITE)
    return value


def _binary(value: Value, _: First) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
    elif value in (0, 1):
        return value == 1
    raise ValueError("neither on nor off")


def _option(value: Value, step: First) -> str:
    text = _text(value, step)
    if step.options and text not in step.options:
        raise ValueError("not one of the options")
    return text


def _text(value: Value, _: First) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_TO: dict[str, Callable[[Value, First], Value]] = {"binary": _binary, "enum": _option, "text": _text}


def beyond(value: Value, step: Then) -> str | None:
    """Return "below" or "above" for a number outside of its limits, else None."""
    if isinstance(value, bool | str):
        return None
    return "below" if value < step.low else "above" if value > step.high else None


def rounded(value: Value, precision: int | None) -> Value:
    """Return a fraction with so many digits after the decimal point; with 0, as a whole number."""
    if precision is None or not isinstance(value, float):
        return value
    if precision:
        return round(value, precision)
    return round(value) if LOWEST <= value < HIGHEST else value


def is_news(value: Value, flag: str | None, last: Last | None, step: Then, now: float) -> bool:
    """Say whether a value is worth to be taken in after the last one."""
    if last is None or flag != last.flag or now - last.at >= step.silence:
        return True
    before = last.value
    if isinstance(value, bool | str) or isinstance(before, bool | str):
        return not step.on_change or value != before or isinstance(value, bool) is not isinstance(before, bool)
    if value == before:
        return False
    # 21.7 is exactly 0.2 away from 21.5 for a person, and 0.19999999999999929 for a float.
    return abs(value - before) >= max(step.band, step.part * abs(before)) * (1 - 1e-9)
