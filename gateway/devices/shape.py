"""What a device gives, made fit to be taken in: plain, finite, bounded, scaled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from gateway.adapter import Metric
from gateway.reading import RESERVED, Value, Values

LONGEST_NAME = 128  # characters of a metric's name
LONGEST_TEXT = 1024  # characters of a text value
LOWEST, HIGHEST = -(2**63), 2**63 - 1  # what every payload format can carry as an integer
NOT_FINITE = "not a finite number"


class Shaped(NamedTuple):
    """What became of one reading's values."""

    values: dict[str, Value]  # what can be taken in; may be empty
    faults: list[tuple[str, str]]  # reason and name of each value that was left out
    renamed: list[str]  # reserved names that got a trailing underscore
    unchanged: bool  # a deadband left something out


def shape(values: Values, metrics: Mapping[str, Metric], last: Mapping[str, float]) -> Shaped:
    """Return `values` as they can be taken in: plain, finite, bounded, scaled, and without what has hardly changed.

    `last` holds, for metrics with a deadband, the number last taken in.
    """
    kept: dict[str, Value] = {}
    faults: list[tuple[str, str]] = []
    renamed: list[str] = []
    unchanged = False
    for name, given in values.items():
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            faults.append(("not a name for a metric", str(name)[:LONGEST_NAME]))
            continue
        try:
            value = _plain(given)
            if name in RESERVED:
                renamed.append(name)
                name = free(name, values)
            metric = metrics.get(name)
            if metric is not None and not isinstance(value, bool | str):
                value = _scaled(value, metric.scale)
                if metric.deadband and name in last and _near(value, last[name], metric.deadband):
                    unchanged = True
                    continue
        except ValueError as fault:
            faults.append((str(fault), name))
        else:
            kept[name] = value
    return Shaped(kept, faults, renamed, unchanged)


def _plain(value: object) -> Value:
    """Return `value` as a bool, an int of 64 bits, a finite float or a str. Raises ValueError with the reason."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if LOWEST <= value <= HIGHEST:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            raise ValueError(NOT_FINITE) from None
    if isinstance(value, float):
        if -inf < value < inf:
            return float(value)
        raise ValueError(NOT_FINITE)
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError(f"text longer than {LONGEST_TEXT} characters")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("text that is not Unicode") from None
        return str.__str__(value)
    raise ValueError("neither number nor text nor true or false")


def free(name: str, values: Values) -> str:
    """Return the name under which a reserved one is published: with as many underscores as it takes."""
    while (name := name + "_") in values:
        pass
    return name


def _scaled(value: float, scale: float) -> float:
    if scale == 1.0:
        return value
    inverse = 1.0 / scale if 0.0 < abs(scale) < 1.0 else 0.5
    # 217 * 0.1 is 21.700000000000003, and 217 / 10 is 21.7.
    scaled = value / inverse if inverse.is_integer() else value * scale
    if not -inf < scaled < inf:
        raise ValueError(NOT_FINITE)
    return scaled


def _near(value: float, last: float, deadband: float) -> bool:
    # 21.7 is exactly 0.2 away from 21.5 for a person, and 0.19999999999999929 for a float.
    return abs(value - last) < deadband * (1 - 1e-9)


def is_plain(values: Values, names: set[str]) -> bool:
    """Say whether `shape` would return `values` as they are. Hot: once for each reading."""
    for name, value in values.items():
        if name not in names:
            return False
        kind = type(value)
        if kind is float:
            if not -inf < value < inf:  # type: ignore[operator]
                return False
        elif kind is int:
            if not LOWEST <= value <= HIGHEST:  # type: ignore[operator]
                return False
        elif kind is not bool and (kind is not str or len(value) > LONGEST_TEXT or not value.isascii()):  # type: ignore[arg-type, union-attr]
            return False
    return bool(values)
