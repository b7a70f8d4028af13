"""A block: readings, or publications, of one commit as compressed columns."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, repeat
from typing import Any

import orjson

from gateway.reading import Publication, Reading, Value, weigh

# The first byte names the layout.
READINGS, PUBLICATIONS = b"\x01", b"\x02"

COUNT = 4000
"""Readings in one block, at most: what is read back, and what is deleted, at once."""
BYTES = 1 << 20
"""Bytes in one block of more than one reading, at most."""


class DamagedBlock(ValueError):
    """The bytes of a block are not what was written."""


def cut(readings: Sequence[Reading]) -> Iterator[list[Reading]]:
    """Cut what is to be written into blocks of one kind and of bounded size."""
    part: list[Reading] = []
    size = 0
    kind: type | None = None
    for reading in readings:
        weight = weigh(reading.values)
        if part and (len(part) == COUNT or size + weight > BYTES or type(reading.values) is not kind):
            yield part
            part, size = [], 0
        kind = type(reading.values)
        size += weight
        part.append(reading)
    if part:
        yield part


def encode(readings: Sequence[Reading]) -> bytes:
    """Return the block of one or more readings of one kind, in ascending order of id.

    Layout 1: zlib level 1 over a JSON array of columns: first id, id steps (null when all are 1), stream names, stream
    of each reading as index (null when there is one), seq, first time since boot and its steps in microseconds, device
    times (null when there are none), values.
    Layout 2, of publications: zlib level 1 over the length of such an array in 4 bytes, big-endian; the array, with
    these columns in place of the last: topics, topic of each as index (null when there is one), payload lengths, QoS,
    retain, properties; and the payloads. QoS, retain and properties that are the same for all stand there once.
    """
    values = [reading.values for reading in readings]
    publications = [one for one in values if isinstance(one, Publication)]
    if not publications:
        return READINGS + zlib.compress(orjson.dumps([*_places(readings), values]), 1)
    columns = [
        *_places(readings),
        *_by_index([one.topic for one in publications]),
        [len(one.payload) for one in publications],
        _once([one.qos for one in publications]),
        _once([one.retain for one in publications]),
        _once([one.properties for one in publications]),
    ]
    head = orjson.dumps(columns, default=_plain)
    payloads = [one.payload for one in publications]
    return PUBLICATIONS + zlib.compress(b"".join([len(head).to_bytes(4, "big"), head, *payloads]), 1)


def decode(data: bytes) -> list[Reading]:
    """Return the readings of a block. Raises DamagedBlock."""
    layout = data[:1]
    try:
        if layout == READINGS:
            *places, values = orjson.loads(zlib.decompress(data[1:]))
            return _readings(places, values)
        if layout == PUBLICATIONS:
            body = zlib.decompress(data[1:])
            start = 4 + int.from_bytes(body[:4], "big")
            *places, topics, index, lengths, qos, retain, properties = orjson.loads(body[4:start])
            ends = list(accumulate(lengths, initial=start))
            if ends[-1] != len(body):
                raise DamagedBlock("payloads are missing")
            count = len(lengths)
            publications = map(
                Publication,
                _from_index(topics, index, count),
                [body[a:b] for a, b in pairwise(ends)],
                _each(qos, count),
                _each(retain, count),
                _properties(properties, count),
            )
            return _readings(places, list(publications))
    except (zlib.error, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise DamagedBlock(str(error)) from error
    raise DamagedBlock(f"unknown layout {layout!r}")


def _places(readings: Sequence[Reading]) -> list[Any]:
    """Return the columns that tell where each reading has its place, without its values."""
    ids = [reading.id for reading in readings]
    boots = [round(reading.boot * 1e6) for reading in readings]
    times = [reading.time for reading in readings]
    return [
        ids[0],
        None if ids[-1] - ids[0] + 1 == len(ids) else [b - a for a, b in pairwise(ids)],
        *_by_index([reading.stream for reading in readings]),
        [reading.seq for reading in readings],
        boots[0],
        [b - a for a, b in pairwise(boots)],
        None if times.count(None) == len(times) else times,
    ]


def _readings(places: list[Any], values: Sequence[dict[str, Value] | Publication]) -> list[Reading]:
    first, steps, streams, index, seqs, boot, boot_steps, times = places
    count = len(values)
    return list(
        map(
            Reading,
            range(first, first + count) if steps is None else accumulate(steps, initial=first),
            _from_index(streams, index, count),
            seqs,
            [micros / 1e6 for micros in accumulate(boot_steps, initial=boot)],
            repeat(None, count) if times is None else times,
            values,
        )
    )


def _by_index(names: Sequence[str]) -> tuple[list[str], list[int] | None]:
    """Return the different names, and for each its index among them; None when all are the same."""
    index = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return list(index), None if len(index) == 1 else [index[name] for name in names]


def _from_index(names: list[str], index: list[int] | None, count: int) -> Iterable[str]:
    return repeat(names[0], count) if index is None else map(names.__getitem__, index)


def _once(column: list[Any]) -> Any:
    """Return the one value of a column in which all are the same, else the column."""
    return column[0] if column.count(column[0]) == len(column) else column


def _each(column: Any, count: int) -> Iterable[Any]:
    return column if isinstance(column, list) else repeat(column, count)


def _plain(value: object) -> dict[str, str]:
    """Write bytes, which JSON does not have."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": b64encode(value).decode()}
    raise TypeError(f"{value!r} cannot be stored")


def _properties(column: Any, count: int) -> Iterable[Mapping[str, Any] | None]:
    if isinstance(column, list):
        return [one and {name: _full(value) for name, value in one.items()} for one in column]
    return repeat(column and {name: _full(value) for name, value in column.items()}, count)


def _full(value: Any) -> Any:
    """Return a property's value as it was: bytes, and pairs in a list, which JSON writes otherwise."""
    if isinstance(value, dict):
        return b64decode(value["base64"])
    return [tuple(one) if isinstance(one, list) else one for one in value] if isinstance(value, list) else value
