"""Rounds, medians, tables and goals: how a measurement is repeated, and how it is told."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple


class Goal(NamedTuple):
    """What is to be reached, and whether it was."""

    words: str
    value: float
    reached: bool


def rounds(count: int, senders: dict[str, Callable[[], tuple[float, ...]]]) -> dict[str, tuple[float, ...]]:
    """Run every sender once a round, `count` rounds, and return the median of each figure for each sender."""
    runs: dict[str, list[tuple[float, ...]]] = {name: [] for name in senders}
    for _ in range(count):
        for name, run in senders.items():
            runs[name].append(run())
            print(".", end="", file=sys.stderr, flush=True)
    return {name: tuple(map(statistics.median, zip(*figures, strict=True))) for name, figures in runs.items()}


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table that is readable as it is."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    for line in (heads, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def speeds(title: str, what: str, found: dict[str, tuple[float, ...]], peer: str) -> None:
    """Print (rate, CPU seconds per 100,000) of each sender, and their ratios to those of `peer`."""
    rows = [
        [name, f"{rate:,.0f}", f"{rate / found[peer][0]:.2f}", f"{cpu:.2f}", f"{cpu / found[peer][1]:.2f}"]
        for name, (rate, cpu) in found.items()
    ]
    table(title, ["sender", f"{what}/s", "ratio", "CPU s per 100,000", "ratio"], rows)
