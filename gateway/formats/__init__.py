"""Reading to payload: one pure function for each format, by name."""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.json import render as _json
from gateway.reading import Reading

# (reading, UTC milliseconds at which it was measured, whether it comes from a backlog) -> payload
Format = Callable[[Reading, int, bool], bytes]

FORMATS: dict[str, Format] = {"json": _json}
