"""What came in at a port, with its times: a text file of one line for each chunk, to be played again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

FIRST = "sensor-gateway capture 1"


class Chunk(NamedTuple):
    """Bytes that came at once, and when: seconds after the first ones."""

    at: float
    data: bytes


class Capture(NamedTuple):
    """What a file holds: where it comes from, and the chunks in order."""

    about: dict[str, Any]
    chunks: list[Chunk]


def header(about: dict[str, Any]) -> str:
    """Return the first lines of a file."""
    return f"# {FIRST}\n# {json.dumps(about, ensure_ascii=False)}\n"


def line(chunk: Chunk) -> str:
    """Return the line of a chunk."""
    return f"{chunk.at:.6f} {chunk.data.hex()}\n"


def parse(lines: Iterable[str]) -> Capture:
    """Return what a file holds; its last line may be cut off. Raises ValueError with the number of a wrong line."""
    numbered = enumerate(lines, 1)
    if next(numbered, (1, ""))[1].strip() != f"# {FIRST}":
        raise ValueError(f'line 1: not a capture: it does not say "# {FIRST}"')
    try:
        about = json.loads(next(numbered, (2, ""))[1].removeprefix("#"))
        if not isinstance(about, dict):
            raise ValueError
    except ValueError:
        raise ValueError("line 2: not # and a JSON object") from None
    return Capture(about, list(_chunks(numbered)))


def _chunks(numbered: Iterator[tuple[int, str]]) -> Iterator[Chunk]:
    before = 0.0
    for number, text in numbered:
        if not text.endswith("\n"):
            return  # whoever wrote it was stopped in the middle of it
        if text.startswith("#") or not text.strip():
            continue
        at, _, digits = text.partition(" ")
        try:
            chunk = Chunk(float(at), bytes.fromhex(digits))
        except ValueError:
            raise ValueError(f"line {number}: not seconds and hexadecimal digits") from None
        if not before <= chunk.at < float("inf"):
            raise ValueError(f"line {number}: earlier than the line before")
        before = chunk.at
        yield chunk
