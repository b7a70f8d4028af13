"""Adapter name to class, and tool name to function, through entry points, imported when first asked for."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gateway.adapter import Adapter

GROUP = "gateway.adapters"
TOOLS = "gateway.tools"


class AdapterError(LookupError):
    """No such adapter, or one that cannot be imported here."""


@cache
def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """Return the names of all installed adapters, sorted, without importing any."""
    return sorted(_found())


@cache
def adapter(name: str) -> type[Adapter]:
    """Import and return the adapter class called `name`. Raises AdapterError if it is unknown or does not import."""
    point = _found().get(name)
    if point is None:
        raise AdapterError(f'unknown adapter "{name}"')
    try:
        found = point.load()
    except Exception as error:
        raise AdapterError(f'adapter "{name}" cannot be imported: {type(error).__name__}: {error}') from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise AdapterError(f'adapter "{name}" ({point.value}) is not a subclass of gateway.Adapter')
    return found


@cache
def tool(name: str) -> Any:
    """Import and return what the command line calls `name`, as `gateway.tools` describes it.

    Raises AdapterError if nothing that is installed offers it.
    """
    for point in entry_points(group=TOOLS, name=name):
        return point.load()
    raise AdapterError(f'nothing that is installed offers the tool "{name}"')
