"""`outbox audit`: the account, and what is wrong with it."""

from __future__ import annotations

import json

import typer

from gateway.cli.outbox.place import Place
from gateway.cli.tables import number, plain, show
from gateway.outbox.audit import Line, audit
from gateway.outbox.inspection import Inspection

EX_WRONG = 1
COLUMNS = ("uplink", "stream", "epoch", "taken in", "delivered", "waiting", "lost")


def run(place: Place, *, as_json: bool) -> None:
    """Print the account. Exits with 1 if it does not add up."""
    with Inspection(place.path) as card:
        found = audit(card)
    if as_json:
        lines = [
            {key.replace(" ", "_"): cell for key, cell in zip(COLUMNS, _cells(line), strict=True)}
            for line in found.lines
        ]
        told = {"right": not found.problems, "blocks": found.blocks, "readings": found.readings}
        print(json.dumps({**told, "streams": lines, "problems": found.problems}, ensure_ascii=False))
    else:
        console = plain()
        if found.lines:
            show(COLUMNS, map(_cells, found.lines), console)
        for problem in found.problems:
            console.print(problem, style="bold red")
        checked = f"{number(found.blocks)} blocks with {number(found.readings)} readings were checked"
        if not found.problems:
            console.print(f"{checked}: it adds up.", style="green")
        else:
            console.print(f"{checked}: {number(len(found.problems))} things are wrong.", style="bold red")
    if found.problems:
        raise typer.Exit(EX_WRONG)


def _cells(line: Line) -> tuple[str | int, ...]:
    return line.uplink, line.stream, line.epoch, line.taken_in, line.delivered, line.waiting, line.lost
