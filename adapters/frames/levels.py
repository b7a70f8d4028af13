"""On and off as people and programs write them. Pure."""

from __future__ import annotations

from gateway import Value

_LEVELS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def as_level(value: Value) -> bool | None:
    """Return the level that is meant, or None if it is none."""
    return _LEVELS.get(str(value).strip().lower())
