"""A block: what one commit writes, the readings of that commit as compressed columns."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise, repeat

import orjson

from gateway.reading import Reading

# The first byte names the layout, so that a later one can be told apart.
COLUMNS_ZLIB = b"\x01"


class DamagedBlock(ValueError):
    """The bytes of a block are not what was written."""


def encode(readings: Sequence[Reading]) -> bytes:
    """Return the block of one or more readings, in ascending order of id.

    Layout 1: zlib level 1 over a JSON array of columns: first id, id steps (null when all are 1), stream names, stream
    of each reading as index, seq, first time since boot and its steps in microseconds, device times (null when there
    are none), values.
    """
    ids = [reading.id for reading in readings]
    first, last = ids[0], ids[-1]
    streams = list(dict.fromkeys(reading.stream for reading in readings))
    index = {stream: at for at, stream in enumerate(streams)}
    boots = [round(reading.boot * 1e6) for reading in readings]
    times = [reading.time for reading in readings]
    columns = [
        first,
        None if last - first + 1 == len(ids) else [b - a for a, b in pairwise(ids)],
        streams,
        None if len(streams) == 1 else [index[reading.stream] for reading in readings],
        [reading.seq for reading in readings],
        boots[0],
        [b - a for a, b in pairwise(boots)],
        None if times.count(None) == len(times) else times,
        [reading.values for reading in readings],
    ]
    return COLUMNS_ZLIB + zlib.compress(orjson.dumps(columns), 1)


def decode(data: bytes) -> list[Reading]:
    """Return the readings of a block. Raises DamagedBlock."""
    if data[:1] != COLUMNS_ZLIB:
        raise DamagedBlock(f"unknown layout {data[:1]!r}")
    try:
        first, steps, streams, index, seqs, boot, boot_steps, times, values = orjson.loads(zlib.decompress(data[1:]))
        count = len(values)
        return list(
            map(
                Reading,
                range(first, first + count) if steps is None else accumulate(steps, initial=first),
                repeat(streams[0], count) if index is None else map(streams.__getitem__, index),
                seqs,
                [micros / 1e6 for micros in accumulate(boot_steps, initial=boot)],
                repeat(None, count) if times is None else times,
                values,
            )
        )
    except (zlib.error, ValueError, TypeError, LookupError) as error:
        raise DamagedBlock(str(error)) from error
