"""Files that are kept aside: damaged outboxes, and what was no outbox at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gateway.durable import sync_folder
from gateway.outbox.card.opening import log_of

SALVAGING, DOUBTFUL = "salvaging", "doubtful"
"""What is to be salvaged: it was an outbox, or nobody knows yet whether it was."""
KEPT = 2
"""Damaged files that are kept, at most; foreign ones are never deleted."""


def put_aside(path: Path, kind: str) -> Path:
    """Move a database and its log to the next name of that kind, and return it. Raises OSError."""
    aside = _next(path, kind)
    _move(path, aside)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    sync_folder(path.parent)
    return aside


def unfinished(path: Path) -> list[Path]:
    """Return what was put aside to be salvaged, and is not done with, oldest first."""
    return [aside for kind in (SALVAGING, DOUBTFUL) for _, aside in sorted(_aside(path, kind))]


def put_away(path: Path, *, is_ours: bool) -> Path | None:
    """Give what was salvaged the name under which it is kept, and return that; None: there is nothing. Raises OSError.

    What nobody knew to be an outbox was one if it `is_ours`.
    """
    kept = None
    for source in unfinished(path):
        is_foreign = not is_ours and f".{DOUBTFUL}-" in source.name
        kept = _next(path, "foreign" if is_foreign else "damaged")
        _move(source, kept)
    return kept


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
    log = log_of(path)
    if not path.exists() and log.exists() and (last := unfinished(path)[-1:]) and not log_of(last[0]).exists():
        log.rename(log_of(last[0]))  # the other half of what was being put aside
    draft = draft_of(path)
    for suffix in ("-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    if not draft.exists():
        return
    if path.exists():
        draft.unlink()
        return
    take_place(path, "damaged")


def _next(path: Path, kind: str) -> Path:
    numbers = [number for number, _ in _aside(path, kind)]
    return path.with_name(f"{path.name}.{kind}-{max(numbers, default=0) + 1}")


def _move(path: Path, to: Path) -> None:
    if path.exists():
        path.rename(to)
    if log_of(path).exists():
        log_of(path).rename(log_of(to))


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
