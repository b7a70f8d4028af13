"""Windows: what the values of a span of time come to. All windows of one length begin and end together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf
from typing import Any

from gateway.devices.metrics.plan import Span
from gateway.devices.metrics.steps import rounded
from gateway.reading import Value

_DIGITS = 14
"""Significant digits of a mean: what is beyond comes from adding up."""

Ended = tuple[float, dict[str, Value]]


@dataclass(slots=True)
class Bin:
    """What is known of the values of one metric in one window. Times are seconds since boot."""

    length: float
    index: int  # which window of this length it is, counted from boot
    count: int
    total: float  # may become infinite
    low: float
    high: float
    last: float
    at: float  # when the last one came
    before: float  # the value from which its rate counts: the last of an earlier window, or else its first
    since: float  # when that one came

    @property
    def end(self) -> float:
        """When the window is over."""
        return (self.index + 1) * self.length


class Windows:
    """The open windows of one device. A window that had no value has no end: nothing is published of it."""

    def __init__(self, spans: Mapping[str, Span]) -> None:
        self._spans = spans
        self._open: dict[str, Bin] = {}
        self._before: dict[str, tuple[float, float]] = {}  # the last value of each metric, and when it came
        self.end = inf  # when the first of the open windows ends

    def add(self, name: str, value: float, now: float) -> None:
        """Take a value into its window; those that are over by `now` have been closed."""
        known = self._open.get(name)
        if known is None:
            length = self._spans[name].length
            index = floor(now / length)
            before, since = self._before.get(name, (value, now))
            fresh = self._open[name] = Bin(length, index, 1, float(value), value, value, value, now, before, since)
            self.end = min(self.end, fresh.end)
            return
        known.count += 1
        known.total += value
        if value < known.low:
            known.low = value
        elif value > known.high:
            known.high = value
        known.last, known.at = value, now

    def close(self, now: float) -> list[Ended]:
        """Close the windows that are over by `now`; return when each ended, and what it came to, the oldest first."""
        ended: dict[float, dict[str, Value]] = {}
        self.end = inf
        for name, known in list(self._open.items()):
            if now < known.end:
                self.end = min(self.end, known.end)
                continue
            del self._open[name]
            self._before[name] = (known.last, known.at)
            ended.setdefault(known.end, {}).update(_sum(name, known, self._spans[name]))
        return sorted(ended.items(), key=lambda one: one[0])

    def contents(self) -> dict[str, Any]:
        """Return the open windows for JSON; what is returned goes on changing with them."""
        return {"open": self._open, "before": self._before}

    def restore(self, contents: Mapping[str, Any]) -> int:
        """Go on with windows of an earlier run; return how many of them are not declared like that any more."""
        strange = 0
        for name, fields in contents.get("open", {}).items():
            span = self._spans.get(name)
            if span is None or span.length != fields.get("length") or fields.keys() != set(Bin.__slots__):
                strange += 1
                continue
            known = Bin(**fields)
            if known.total is None:  # JSON has no word for infinite
                known.total = inf
            self._open[name] = known
            self.end = min(self.end, known.end)
        for name, (value, at) in contents.get("before", {}).items():
            if name in self._spans:
                self._before[name] = (value, at)
        return strange

    def forget_boot(self) -> None:
        """Forget what counts from an earlier boot, after its windows were closed."""
        self._before.clear()


def _sum(name: str, known: Bin, span: Span) -> dict[str, Value]:
    """Return what a window came to. What cannot be said is left out: a rate of one value, a mean beyond all numbers."""
    found: dict[str, Value] = {}
    for aggregate in span.aggregates:
        value: float | None = None
        match aggregate:
            case "mean":
                value = _mean(known)
            case "min":
                value = known.low
            case "max":
                value = known.high
            case "last":
                value = known.last
            case "count":
                value = known.count
            case "rate":
                value = _rate(known, span)
        if value is not None and -inf < value < inf:
            found[f"{name}_{aggregate}"] = rounded(value, span.precision)
    return found


def _mean(known: Bin) -> float | None:
    # A rounding error in the sum must not show in the mean, nor put it outside of what there was.
    if not -inf < known.total < inf:
        return None
    return min(max(float(f"{known.total / known.count:.{_DIGITS}g}"), known.low), known.high)


def _rate(known: Bin, span: Span) -> float | None:
    change, seconds = known.last - known.before, known.at - known.since
    if seconds <= 0 or (span.climbs and change < 0):
        return None
    return change / seconds
