"""`outbox export`: every reading that waits, as JSON lines or as CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gateway.cli.outbox.listing import as_dict
from gateway.cli.outbox.place import Place
from gateway.outbox.inspection import Inspection, Seen
from gateway.reading import Publication

COLUMNS = ("stream", "epoch", "seq", "ts", "metric", "value")
EVERY = 1000
"""Readings between two looks of the progress bar."""


def run(place: Place, uplink: str | None, form: str, output: Path | None) -> None:
    """Write them out; `output` None is standard output."""
    with Inspection(place.path) as card:
        if uplink is not None:
            card.claim(uplink)  # it is known, or no file is made
        with _opened(output) as file, _progress(card.stored().readings, hidden=output is None) as advance:
            write = _jsonl(file) if form == "jsonl" else _csv(file)
            for count, seen in enumerate(card.readings(uplink), 1):
                write(seen)
                if count % EVERY == 0:
                    advance(count)
        for first, last in card.damaged:
            print(f"sensor-gateway outbox: ids {first} to {last} are damaged, and left out", file=sys.stderr)


def _jsonl(file: IO[str]) -> Callable[[Seen], None]:
    """Write one object a line."""

    def write(seen: Seen) -> None:
        file.write(json.dumps(as_dict(seen), ensure_ascii=False) + "\n")

    return write


def _csv(file: IO[str]) -> Callable[[Seen], None]:
    """Write one row for each value, because metrics differ from stream to stream. A publication is one row."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)

    def write(seen: Seen) -> None:
        reading = seen.reading
        place = (reading.stream, reading.epoch, reading.seq, round(seen.time * 1000))
        if isinstance(reading.values, Publication):
            told = as_dict(seen)
            rows.writerow((*place, reading.values.topic, told.get("payload", told.get("payload_base64"))))
            return
        for metric, value in reading.values.items():
            rows.writerow((*place, metric, json.dumps(value) if isinstance(value, bool) else value))

    return write


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file


@contextmanager
def _progress(total: int, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if that is a terminal and the readings do not go to one."""
    if not sys.stderr.isatty() or (hidden and sys.stdout.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("readings", total=total)
        yield lambda count: progress.update(task, completed=count)
