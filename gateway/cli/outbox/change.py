"""What changes an outbox: the quarantine's retry and drop, trim, and forget."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from gateway import logs
from gateway.cli.outbox.place import Place, number
from gateway.cli.tables import number as count_text
from gateway.control import Refused
from gateway.outbox.inspection import Inspection
from gateway.requests import have_done
from gateway.units import parse_duration

DONE = {
    "retry": "{} are to be sent again.",
    "drop": "{} were dropped; the ledger has them.",
    "trim": "{} were given up; the ledger has them.",
    "forget": "{} were given up; the ledger has them. The uplink is forgotten.",
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
        _ask(f"Give up {what} that waits for {whose}? It will never be delivered.")
    # With everything, also what carries a time of its own that is still to come.
    _have_done(place, "trim", age=-1e9 if everything else age, uplink=uplink)


def forget(place: Place, uplink: str, *, yes: bool) -> None:
    """Let go of an uplink that is no longer in the config."""
    if uplink in place.uplinks:
        raise Refused(f'the uplink "{uplink}" is in the config: take it out there first')
    with Inspection(place.path) as card:
        waiting = card.standing(uplink).waiting  # it is known, or this ends here
    if not yes:
        _ask(f"Give up {count_text(waiting)} readings that wait for the uplink {uplink}? They will never be delivered.")
    _have_done(place, "forget", uplink=uplink)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask: say --yes")
    typer.confirm(question, abort=True)


def _have_done(place: Place, command: str, **arguments: object) -> None:
    logs.configure("auto", "warning")
    count = have_done(place.path, command, **arguments)
    print(DONE[command].format(count_text(count)))
