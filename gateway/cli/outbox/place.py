"""Which outbox is meant, what the config allows it, and what is said when it cannot be had."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from gateway.cli.run import EX_CONFIG
from gateway.control import Refused, ask
from gateway.control import place as socket_of
from gateway.outbox import OutboxError, OutboxInUse
from gateway.reading import EPOCH_SHIFT

EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_REFUSED = 74, 75, 77, 69  # sysexits.h


@dataclass(frozen=True, slots=True)
class Place:
    """An outbox; its bounds in bytes are None, and it has no uplinks, where only the service could say them."""

    path: Path
    max_size: int | None = None
    keep_free: int | None = None
    uplinks: frozenset[str] = frozenset()  # that the config names

    def service(self) -> dict[str, Any] | None:
        """Return what a running service says of itself; None if none listens, or none to us."""
        try:
            told: dict[str, Any] = ask(socket_of(self.path), "status", timeout=5.0)
        except (OSError, Refused):
            return None
        return told


def find(config: Path, path: Path | None) -> Place:
    """Return the outbox that the options name. Exits if the config is wrong."""
    if path is not None:
        return Place(path)
    from gateway.config import ConfigError, load

    try:
        loaded = load(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        print("With --path, no config is needed.", file=sys.stderr)
        raise typer.Exit(EX_CONFIG) from None
    return Place(loaded.outbox.path, loaded.outbox.max_size, loaded.outbox.keep_free, frozenset(loaded.uplinks))


@contextmanager
def errors() -> Iterator[None]:
    """Turn what may go wrong with an outbox into words and an exit status."""
    try:
        yield
    except Refused as error:
        _say(str(error), EX_REFUSED)
    except OutboxInUse as error:
        _say(f"{error}; and it does not listen to this command", EX_TEMPFAIL)
    except PermissionError as error:
        _say(
            f"{error.filename or 'the outbox'} belongs to somebody else: try again as that user, or as root", EX_NOPERM
        )
    except BrokenPipeError:  # whoever reads this has seen enough
        sys.stdout = None  # else its last flush complains
        raise typer.Exit(0) from None
    except (OutboxError, OSError, sqlite3.Error) as error:
        _say(str(error), EX_IOERR)


def name(one: int) -> str:
    """Write an id for a person: its epoch, and its place within it."""
    return f"{one >> EPOCH_SHIFT}:{one & (1 << EPOCH_SHIFT) - 1}"


def number(text: str) -> int:
    """Read what `name` has written. Raises typer.BadParameter."""
    epoch, _, place = text.partition(":")
    if not (epoch.isdecimal() and place.isdecimal()):
        raise typer.BadParameter(f'"{text}" is not an id such as 3:17; `quarantine list` shows them')
    return (int(epoch) << EPOCH_SHIFT) + int(place)


def _say(words: str, status: int) -> None:
    print(f"sensor-gateway outbox: {words}", file=sys.stderr)
    raise typer.Exit(status)
