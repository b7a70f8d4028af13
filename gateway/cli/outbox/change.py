"""What changes an outbox: the quarantine's retry and drop, and trim."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from gateway import logs
from gateway.cli.outbox.place import Place, number
from gateway.cli.tables import number as count_text
from gateway.requests import have_done
from gateway.units import parse_duration

DONE = {
    "retry": "{} are to be sent again.",
    "drop": "{} were dropped; the ledger has them.",
    "trim": "{} were given up; the ledger has them.",
}


def quarantine(place: Place, command: str, ids: Sequence[str], *, everything: bool) -> None:
    """Have what is set aside sent again, or dropped."""
    if bool(ids) == everything:
        raise typer.BadParameter("name the ids, or say --all")
    _have_done(place, command, ids=None if everything else [number(text) for text in ids])


def trim(place: Place, uplink: str | None, older_than: str | None, *, everything: bool, yes: bool) -> None:
    """Give up what is old, or all."""
    if (older_than is not None) == everything:
        raise typer.BadParameter("say --older-than, or --all")
    try:
        age = 0.0 if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    if not yes:
        whose = "every uplink" if uplink is None else f"the uplink {uplink}"
        what = "everything" if older_than is None else f"what is older than {older_than}"
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is nobody to ask: say --yes")
        typer.confirm(f"Give up {what} that waits for {whose}? It will never be delivered.", abort=True)
    # With everything, also what carries a time of its own that is still to come.
    _have_done(place, "trim", age=-1e9 if everything else age, uplink=uplink)


def _have_done(place: Place, command: str, **arguments: object) -> None:
    logs.configure("auto", "warning")
    count = have_done(place.path, command, **arguments)
    print(DONE[command].format(count_text(count)))
