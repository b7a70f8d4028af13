"""What the metrics of one device agree on: a published name is that of one, and what a formula uses is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter, ValidationError

from gateway.config.names import MetricName
from gateway.config.problems import Conflict
from gateway.expressions import Expression
from gateway.metric import Metric

_NAME: TypeAdapter[str] = TypeAdapter(MetricName)
_KEYS = ("metrics", "computed")


def conflicts(metrics: Mapping[str, Metric], computed: Mapping[str, str]) -> list[Conflict]:
    """Find what is wrong with the metrics and formulas of a device that are right each by itself."""
    return [*_renames(metrics, computed), *_twice(metrics, computed), *_formulas(metrics, computed)]


def _renames(metrics: Mapping[str, Metric], computed: Mapping[str, str]) -> Iterator[Conflict]:
    for name, metric in metrics.items():
        if metric.rename is None:
            continue
        at = ("metrics", name, "rename")
        try:
            _NAME.validate_python(metric.rename)
        except ValidationError as error:
            words = error.errors(include_url=False)[0]["ctx"]["words"]
            yield Conflict(at, _KEYS, f'rename: metric name "{metric.rename}" {words}')
        if name in computed:
            yield Conflict(at, _KEYS, f"rename: {name} is computed; give it there the name that it is to have")


def _published(name: str, metric: Metric | None) -> list[str]:
    """Return the names under which a metric is published."""
    if metric is None:
        return [name]
    name = metric.rename or name
    return [f"{name}_{each}" for each in metric.aggregate] if metric.window is not None else [name]


def _twice(metrics: Mapping[str, Metric], computed: Mapping[str, str]) -> Iterator[Conflict]:
    first: dict[str, str] = {}
    for name in dict.fromkeys((*metrics, *computed)):
        metric = metrics.get(name)
        for published in _published(name, metric):
            other = first.setdefault(published, name)
            if other != name:
                words = f'"{published}" is what {other} is published as already'
                renamed = metric is not None and metric.rename is not None
                at = ("metrics", name, "rename") if renamed else ("metrics" if name in metrics else "computed", name)
                yield Conflict(at, _KEYS, f"{'rename' if renamed else name}: {words}")


def _formulas(metrics: Mapping[str, Metric], computed: Mapping[str, str]) -> Iterator[Conflict]:
    renamed = {name: metric.rename for name, metric in metrics.items() if metric.rename is not None}
    later = list(computed)
    for name, text in computed.items():
        used = Expression(text).names
        for other in later:
            if other in used:
                words = "uses itself" if other == name else f"uses {other}, which is computed after it"
                yield Conflict(("computed", name), _KEYS, f"{name}: {words}")
        later.remove(name)
        for other in sorted(used & renamed.keys() - set(renamed.values())):
            yield Conflict(("computed", name), _KEYS, f"{name}: {other} is renamed; write {renamed[other]}")
