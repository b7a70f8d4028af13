"""A block: readings, or publications, of one commit as compressed columns."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, count, pairwise, repeat
from typing import Any, TypeVar

import orjson

from gateway.outbox.card.wear import LEVEL
from gateway.reading import Publication, Reading, Value, weigh

T = TypeVar("T")

# The first byte names the layout.
ROWS, PUBLICATIONS, READINGS = b"\x01", b"\x02", b"\x03"

COUNT = 4000
"""Readings in one block, at most: what is read back, and what is deleted, at once."""
BYTES = 1 << 20
"""Bytes in one block of more than one reading, at most."""


MIXED = 8
"""How often readings of high priority may be interrupted by others in one transaction, each in a block of its own."""


class DamagedBlock(ValueError):
    """The bytes of a block are not what was written."""


def cut(readings: Sequence[Reading], high: Collection[str] = ()) -> Iterator[tuple[list[Reading], bool]]:
    """Cut what is to be written into blocks of one kind and of bounded size; say which are of high priority.

    Those are of streams in `high`, and of no others, unless the two alternate so often that blocks would be tiny.
    """
    part: list[Reading] = []
    size = 0
    kind: tuple[type, bool] | None = None
    between = _between(readings, high) if high else range(0)
    for at, reading in enumerate(readings):
        weight = weigh(reading.values)
        is_high = at in between or reading.stream in high
        if part and (len(part) == COUNT or size + weight > BYTES or (type(reading.values), is_high) != kind):
            yield part, kind is not None and kind[1]
            part, size = [], 0
        kind = type(reading.values), is_high
        size += weight
        part.append(reading)
    if part:
        yield part, kind is not None and kind[1]


def _between(readings: Sequence[Reading], high: Collection[str]) -> range:
    """Return from the first of high priority to the last, if there are too many others in between."""
    found = [at for at, reading in enumerate(readings) if reading.stream in high]
    breaks = sum(b - a > 1 for a, b in pairwise(found))
    return range(found[0], found[-1]) if breaks >= MIXED else range(0)


def encode(readings: Sequence[Reading]) -> bytes:
    """Return the block of one or more readings of one kind, in ascending order of id.

    Layout 3: zlib over a JSON array of columns: first id, id steps (null when all are 1), stream names, stream of each
    reading as index (null when there is one), seq (the first of each stream, where none is missing behind it), first
    time since boot and its steps in microseconds, device times (null when there are none), the different lists of
    metrics, which of them each reading has as index (null when there is one), and for each list its columns of values.
    Layout 1, of earlier versions, has one object of values for each reading in place of the last three.
    Layout 2, of publications: zlib over the length of such an array in 4 bytes, big-endian; the array, with these
    columns in place of the last three: topics, topic of each as index (null when there is one), payload lengths, QoS,
    retain, properties; and the payloads. QoS, retain and properties that are the same for all stand there once.
    """
    values: list[Any] = [reading.values for reading in readings]
    publications = [one for one in values if isinstance(one, Publication)]
    if not publications:
        return READINGS + zlib.compress(orjson.dumps([*_places(readings), *_columns(values)]), LEVEL)
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
    return PUBLICATIONS + zlib.compress(b"".join([len(head).to_bytes(4, "big"), head, *payloads]), LEVEL)


def decode(data: bytes) -> list[Reading]:
    """Return the readings of a block. Raises DamagedBlock."""
    layout = data[:1]
    try:
        if layout == READINGS:
            *places, names, index, columns = orjson.loads(zlib.decompress(data[1:]))
            return _readings(places, _values(names, index, columns, len(places[6]) + 1))
        if layout == ROWS:
            *places, values = orjson.loads(zlib.decompress(data[1:]))
            return _readings(places, values)
        if layout == PUBLICATIONS:
            body = zlib.decompress(data[1:])
            start = 4 + int.from_bytes(body[:4], "big")
            *places, topics, index, lengths, qos, retain, properties = orjson.loads(body[4:start])
            ends = list(accumulate(lengths, initial=start))
            if ends[-1] != len(body):
                raise DamagedBlock("payloads are missing")
            length = len(lengths)
            publications = map(
                Publication,
                _from_index(topics, index, length),
                [body[a:b] for a, b in pairwise(ends)],
                _each(qos, length),
                _each(retain, length),
                _properties(properties, length),
            )
            return _readings(places, list(publications))
    except (zlib.error, ValueError, TypeError, LookupError, AttributeError, OverflowError, StopIteration) as error:
        raise DamagedBlock(str(error)) from error
    raise DamagedBlock(f"unknown layout {layout!r}")


def _places(readings: Sequence[Reading]) -> list[Any]:
    """Return the columns that tell where each reading has its place, without its values."""
    ids = [reading.id for reading in readings]
    boots = [round(reading.boot * 1e6) for reading in readings]
    times = [reading.time for reading in readings]
    streams, index = _by_index([reading.stream for reading in readings])
    return [
        ids[0],
        None if ids[-1] - ids[0] + 1 == len(ids) else [b - a for a, b in pairwise(ids)],
        streams,
        index,
        _seqs(readings, streams, index),
        boots[0],
        [b - a for a, b in pairwise(boots)],
        None if times.count(None) == len(times) else times,
    ]


def _readings(places: list[Any], values: Sequence[dict[str, Value] | Publication]) -> list[Reading]:
    first, steps, streams, index, seqs, boot, boot_steps, times = places
    length = len(values)
    return list(
        map(
            Reading,
            range(first, first + length) if steps is None else accumulate(steps, initial=first),
            _from_index(streams, index, length),
            seqs if isinstance(seqs, list) else _counted(seqs["first"], index, length),
            [micros / 1e6 for micros in accumulate(boot_steps, initial=boot)],
            repeat(None, length) if times is None else times,
            values,
        )
    )


def _seqs(readings: Sequence[Reading], streams: list[str], index: list[int] | None) -> list[int] | dict[str, list[int]]:
    """Return the first seq of each stream, if the others follow from it, else the seq of each reading."""
    first = {reading.stream: reading.seq for reading in reversed(readings)}
    firsts, seqs = [first[stream] for stream in streams], [reading.seq for reading in readings]
    return {"first": firsts} if list(_counted(firsts, index, len(seqs))) == seqs else seqs


def _counted(firsts: list[int], index: list[int] | None, length: int) -> Iterable[int]:
    """Return the seq of each reading, where each stream has no gap."""
    if index is None:
        return range(firsts[0], firsts[0] + length)
    counters = [count(first) for first in firsts]
    return map(next, map(counters.__getitem__, index))


def _columns(values: Sequence[dict[str, Value]]) -> list[Any]:
    """Return the different lists of metrics, for each reading its index among them, and the columns of each."""
    rows: dict[tuple[str, ...], list[Any]] = {}
    for one in values:
        rows.setdefault(tuple(one), []).append(one.values())
    return [*_by_index([tuple(one) for one in values]), [list(zip(*some, strict=True)) for some in rows.values()]]


def _values(
    names: list[list[str]], index: list[int] | None, columns: list[list[Any]], length: int
) -> list[dict[str, Value]]:
    """Return the values of each reading."""
    rows = [zip(*some, strict=True) if some else repeat((), length) for some in columns]
    if index is None:
        return [dict(zip(names[0], row, strict=True)) for row in rows[0]]
    return [dict(zip(names[at], next(rows[at]), strict=True)) for at in index]


def _by_index(names: Sequence[T]) -> tuple[list[T], list[int] | None]:
    """Return what there is, each once, and for each its index among them; None when all are the same."""
    index = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return list(index), None if len(index) == 1 else [index[name] for name in names]


def _from_index(names: list[str], index: list[int] | None, length: int) -> Iterable[str]:
    return repeat(names[0], length) if index is None else map(names.__getitem__, index)


def _once(column: list[Any]) -> Any:
    """Return the one value of a column in which all are the same, else the column."""
    return column[0] if column.count(column[0]) == len(column) else column


def _each(column: Any, length: int) -> Iterable[Any]:
    return column if isinstance(column, list) else repeat(column, length)


def _plain(value: object) -> dict[str, str]:
    """Write bytes, which JSON does not have."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": b64encode(value).decode()}
    raise TypeError(f"{value!r} cannot be stored")


def _properties(column: Any, length: int) -> Iterable[Mapping[str, Any] | None]:
    if isinstance(column, list):
        return [one and {name: _full(value) for name, value in one.items()} for one in column]
    return repeat(column and {name: _full(value) for name, value in column.items()}, length)


def _full(value: Any) -> Any:
    """Return a property's value as it was: bytes, and pairs in a list, which JSON writes otherwise."""
    if isinstance(value, dict):
        return b64decode(value["base64"])
    return [tuple(one) if isinstance(one, list) else one for one in value] if isinstance(value, list) else value
