"""Files that are kept aside: damaged outboxes, and what was no outbox at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gateway.outbox.card.mark import sync_folder
from gateway.outbox.card.opening import log_of

KEPT = 2
"""Damaged files that are kept, at most; foreign ones are never deleted."""


def put_aside(path: Path, kind: str) -> Path:
    """Move a database and its log to the next name of that kind, and return it. Raises OSError."""
    numbers = [number for number, _ in _aside(path, kind)]
    aside = path.with_name(f"{path.name}.{kind}-{max(numbers, default=0) + 1}")
    if path.exists():
        path.rename(aside)
    if log_of(path).exists():
        log_of(path).rename(log_of(aside))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def prune(path: Path, max_size: int) -> None:
    """Delete the oldest damaged files: `KEPT` stay, and together they take no more than `max_size` bytes."""
    size = 0
    for at, (_, aside) in enumerate(sorted(_aside(path, "damaged"), reverse=True)):
        files = [file for file in (aside, log_of(aside)) if file.exists()]
        size += sum(file.stat().st_size for file in files)
        if at >= KEPT or size > max_size:
            for file in files:
                file.unlink()


def draft_of(path: Path) -> Path:
    """Return where a new database is made that is to take the place of the one at `path`."""
    return path.with_name(path.name + ".salvaged")


def take_place(path: Path, kind: str) -> Path:
    """Put what is at `path` aside and the finished draft in its place; return where it was put. Raises OSError.

    What is at `path` goes first, and its log after it. So a draft without a database beside it is a finished one.
    """
    aside = put_aside(path, kind)
    draft_of(path).rename(path)
    sync_folder(path.parent)
    return aside


def finish(path: Path) -> None:
    """Bring to its end, or undo, what a power cut has interrupted. Raises OSError."""
    draft = draft_of(path)
    for suffix in ("-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    if not draft.exists():
        return
    if path.exists():
        draft.unlink()
        return
    take_place(path, "damaged")


def _aside(path: Path, kind: str) -> list[tuple[int, Path]]:
    """Return (number, path) of each file that was put aside; of a log without a database, the name that it had."""
    found: dict[int, Path] = {}
    start = f"{path.name}.{kind}-"
    with suppress(OSError):
        for file in path.parent.iterdir():
            number = file.name.removeprefix(start).removesuffix("-wal")
            if file.name.startswith(start) and number.isdigit():
                found[int(number)] = path.with_name(start + number)
    return list(found.items())
