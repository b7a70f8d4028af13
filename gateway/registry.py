"""Adapter name to class, and tool name to function, through entry points, imported when first asked for."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gateway.adapter import Adapter

GROUP = "gateway.adapters"
TOOLS = "gateway.tools"

_origins: dict[type[Adapter], str] = {}  # of the adapters that were imported


class AdapterError(LookupError):
    """No such adapter, or one that cannot be used here; the words name the distribution that it came with."""


@cache
def _found() -> dict[str, list[EntryPoint]]:
    """Return the adapters that are installed, by name; one name is to have one."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def names(distribution: str | None = None) -> list[str]:
    """Return the names of all installed adapters, or of those that one distribution brings, without importing any."""
    return sorted(
        name
        for name, points in _found().items()
        if distribution is None or any(point.dist and point.dist.name == distribution for point in points)
    )


@cache
def adapter(name: str) -> type[Adapter]:
    """Import and return the adapter class called `name`. Raises AdapterError if it is unknown or does not import."""
    points = _found().get(name)
    if points is None:
        raise AdapterError(f'unknown adapter "{name}"')
    if len(points) > 1:
        several = " and ".join(sorted(map(_origin, points)))
        raise AdapterError(f'adapter "{name}" is in {several}: only one of them may be installed')
    (point,) = points
    try:
        found = point.load()
    except Exception as error:
        raise fault(name, "cannot be imported", error) from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise fault(name, f"is not a subclass of gateway.Adapter: {point.value}")
    _origins[found] = _origin(point)
    return found


def fault(name: str, words: str, error: Exception | None = None) -> AdapterError:
    """Return what is to be said of a fault of an adapter: which one, what it was installed with, and the error."""
    (point,) = _found()[name]
    more = "" if error is None else f": {type(error).__name__}: {error}"
    return AdapterError(f'adapter "{name}" of {_origin(point)} {words}{more}')


def described(kind: type[Adapter]) -> str:
    """Return what an adapter is called, and what it was installed with if it came through an entry point.

    As in "Thermometer of sensor-gateway-thermometer 1.0".
    """
    return f"{kind.__name__} of {_origins[kind]}" if kind in _origins else kind.__name__


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


@cache
def tool(name: str) -> Any:
    """Import and return what the command line calls `name`, as `gateway.tools` describes it.

    Raises AdapterError if nothing that is installed offers it.
    """
    for point in entry_points(group=TOOLS, name=name):
        return point.load()
    raise AdapterError(f'nothing that is installed offers the tool "{name}"')
