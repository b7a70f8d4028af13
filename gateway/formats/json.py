"""The native payload: one JSON object a reading, `{"ts": ..., "seq": ..., "epoch": ..., <metric>: <value>, ...}`."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.reading import EPOCH_SHIFT, Doubt, Reading


def render(reading: Reading, ts: int, historical: bool, doubt: Doubt | None = None) -> bytes:
    """Return the payload: `ts` in UTC milliseconds; `historical` appears only when true.

    A time in `doubt` is marked as `"time_quality": "unsynced"`, with its bounds `ts_min` and `ts_max` where known.
    """
    values: Any = reading.values  # of a device: publications are not rendered
    if doubt is not None:
        head = {"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT}
        return orjson.dumps({**head, **_marks(doubt, historical=historical), **values})
    if historical:
        return orjson.dumps(
            {"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, "historical": True, **values}
        )
    return orjson.dumps({"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, **values})


def _marks(doubt: Doubt, *, historical: bool) -> dict[str, Any]:
    marks: dict[str, Any] = {"historical": True} if historical else {}
    marks["time_quality"] = "unsynced"
    if doubt.earliest is not None:
        marks["ts_min"] = doubt.earliest
    if doubt.latest is not None:
        marks["ts_max"] = doubt.latest
    return marks
