"""The native payload: one JSON object a reading, `{"ts": ..., "seq": ..., "epoch": ..., <metric>: <value>, ...}`."""

from __future__ import annotations

import orjson

from gateway.reading import EPOCH_SHIFT, Reading


def render(reading: Reading, ts: int, historical: bool) -> bytes:
    """Return the payload: `ts` in UTC milliseconds; `historical` appears only when true."""
    if historical:
        return orjson.dumps(
            {"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, "historical": True, **reading.values}
        )
    return orjson.dumps({"ts": ts, "seq": reading.seq, "epoch": reading.id >> EPOCH_SHIFT, **reading.values})
