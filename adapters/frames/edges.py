"""Edges of a GPIO line, as the kernel reports them through the descriptor of a line request.

Source: `struct gpio_v2_line_event` in include/uapi/linux/gpio.h (Linux 5.10 and later): 48 bytes in the byte order of
the machine: time in ns, kind (1 rising, 2 falling), offset, number within the request, number within the line, padding.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_RECORD = struct.Struct("=QIIII24x")
SIZE = _RECORD.size
"""Bytes of one edge."""
_RISING, _FALLING = 1, 2


class Edge(NamedTuple):
    """One change of the logical level of a line."""

    time: int
    """CLOCK_MONOTONIC, in nanoseconds, at which the kernel saw it."""
    level: bool
    """The level after it: true is active."""
    number: int
    """1 for the first edge since the line was requested, and 0 after 4,294,967,295: see `skipped`."""


def skipped(before: int, number: int) -> int:
    """Return how many edges the kernel had no room for between these two numbers, of which the first may be 0."""
    return (number - before - 1) & 0xFFFFFFFF


def decode(data: bytes) -> list[Edge]:
    """Return the edges in `data`, whole records. Raises ValueError for what the kernel would never write."""
    if len(data) % SIZE:
        raise ValueError(f"{len(data) % SIZE} bytes too much for records of {SIZE} bytes")
    edges = []
    for time, kind, _, _, number in _RECORD.iter_unpack(data):
        if kind not in (_RISING, _FALLING):
            raise ValueError(f"an edge of unknown kind {kind}")
        edges.append(Edge(time, kind == _RISING, number))
    return edges


def encode(edge: Edge, offset: int = 0) -> bytes:
    """Return the record of an edge, as the kernel writes it for a request of one line."""
    return _RECORD.pack(edge.time, _RISING if edge.level else _FALLING, offset, edge.number, edge.number)
