"""Tables: for eyes on a terminal, plain aligned lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | int
"""Numbers stand on the right, and have their thousands apart on a terminal."""


def show(columns: Sequence[str], rows: Iterable[Sequence[Cell]], console: Console | None = None) -> None:
    """Print a table on standard output, or where `console` prints."""
    console = console or plain()
    lines = [list(row) for row in rows]
    if console.is_terminal:
        console.print(_for_eyes(columns, lines))
        return
    for line in _aligned(columns, lines):
        console.print(line)


def plain() -> Console:
    """Return where to print without any markup, on standard output."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def number(value: int) -> str:
    """Write a count for a person: 12 345."""
    return f"{value:,}".replace(",", " ")


def moment(seconds: float) -> str:
    """Write a UTC time in seconds, to the second; nothing if there is none (0)."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def size(count: int) -> str:
    """Write a size in bytes for a person, with about three digits: 1.23 GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{float(f'{count / factor:.3g}'):g} {unit}"
    return f"{count} B"


def lasting(seconds: float) -> str:
    """Write a duration for a person, in its two largest units: 3 d 4 h."""
    parts: list[str] = []
    left = max(0, int(seconds))
    for unit, factor in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, factor)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}" if count or not parts else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def _for_eyes(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for at, column in enumerate(columns):
        right = bool(rows) and all(isinstance(row[at], int) for row in rows)
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(number(cell) if isinstance(cell, int) else cell) for cell in row))
    return table


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterable[str]:
    """Return plain lines; one field is apart from the next by two blanks at least."""
    texts = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(text[at]) for text in texts) for at in range(len(columns))]
    for text in texts:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(text, widths, strict=True)).rstrip()
