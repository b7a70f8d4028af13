"""What is to be done with each metric of a device, found out once when it starts, so that no reading has to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from gateway.expressions import Expression
from gateway.metric import Aggregate, Kind, Metric


@dataclass(frozen=True, slots=True)
class First:
    """What is done with a value as the device gives it."""

    name: str  # under which it is published
    kind: Kind | None = None  # only if something becomes another type
    options: frozenset[str] = frozenset()
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Then:
    """What is done with a value in its published unit."""

    low: float = -inf
    high: float = inf
    flags: bool = False
    drops: bool = False
    windowed: bool = False
    precision: int | None = None
    band: float = 0.0  # deadband, absolute
    part: float = 0.0  # deadband, as a part of the value
    on_change: bool = False
    silence: float = inf

    @property
    def damps(self) -> bool:
        """Whether a value can be left out because it has hardly changed."""
        return bool(self.band or self.part or self.on_change)


class Span(NamedTuple):
    """How a metric is aggregated."""

    length: float  # seconds
    aggregates: tuple[Aggregate, ...]
    precision: int | None
    climbs: bool  # it never goes down, but for a reset


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with the metrics of one device; by default, nothing."""

    first: Mapping[str, First]  # by the device's own names
    computed: tuple[tuple[str, Expression], ...]
    then: Mapping[str, Then]  # by published names
    spans: Mapping[str, Span]  # by published names


_UNTOUCHED_FIRST, _UNTOUCHED_THEN = First(""), Then()


def plan(metrics: Mapping[str, Metric], computed: Mapping[str, str] | None = None) -> Plan:
    """Return what these metrics and formulas come to. Raises ExpressionError."""
    first, then, spans = {}, {}, {}
    for name, metric in metrics.items():
        published = metric.rename or name
        one = First(
            "" if published == name else published,
            metric.kind if metric.kind in ("binary", "enum", "text") else None,
            frozenset(metric.options or ()),
            metric.scale,
            metric.offset,
        )
        if one != _UNTOUCHED_FIRST:
            first[name] = First(published, one.kind, one.options, one.scale, one.offset)
        if (later := _then(metric)) != _UNTOUCHED_THEN:
            then[published] = later
        if metric.window is not None:
            climbs = metric.kind == "total_increasing"
            spans[published] = Span(metric.window, tuple(metric.aggregate), metric.precision, climbs)
    return Plan(first, tuple((name, Expression(text)) for name, text in (computed or {}).items()), then, spans)


def _then(metric: Metric) -> Then:
    part = float(metric.deadband[:-1]) / 100 if isinstance(metric.deadband, str) else 0.0
    return Then(
        low=-inf if metric.min is None else metric.min,
        high=inf if metric.max is None else metric.max,
        flags=metric.outside == "flag",
        drops=metric.drop,
        windowed=metric.window is not None,
        precision=metric.precision,
        band=0.0 if isinstance(metric.deadband, str) else metric.deadband,
        part=part,
        on_change=metric.on_change,
        silence=inf if metric.max_silence is None else metric.max_silence,
    )
