"""The native payload: one JSON object a reading, `{"ts": ..., "seq": ..., "epoch": ..., <metric>: <value>, ...}`."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.reading import EPOCH_SHIFT, Reading


def render(reading: Reading, ts: int, historical: bool) -> bytes:
    """Return the payload: `ts` in UTC milliseconds; `historical` appears only when true."""
    values: Any = reading.values  # of a device: publications are not rendered
    if historical:
        return orjson.dumps(
            {"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, "historical": True, **values}
        )
    return orjson.dumps({"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, **values})
