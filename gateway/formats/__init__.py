"""Reading to payload: one pure function for each format, by name."""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.json import render as _json
from gateway.reading import Doubt, Reading

# (reading, UTC milliseconds at which it was measured, whether it comes from a backlog, and between what it was
# measured, if the clock was never set) -> payload
Format = Callable[[Reading, int, bool, Doubt | None], bytes]

FORMATS: dict[str, Format] = {"json": _json}
