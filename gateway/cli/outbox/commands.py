"""`sensor-gateway outbox`: see what waits, what was lost and whether it adds up, and put it right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from gateway.cli.run import DEFAULT_CONFIG

app = typer.Typer(
    no_args_is_help=True,
    help="See what waits, what was lost and whether it adds up, and put it right. Works beside a running service, and "
    "on a card that was pulled out of a dead machine: looking at an outbox changes nothing in it.",
    epilog="Exit status: 0 done, 1 the account does not add up, 69 the service refuses, 74 the outbox cannot be read, "
    "75 it is in use by a process that does not listen, 77 it belongs to another user, 78 the config is wrong.",
)
quarantine = typer.Typer(
    no_args_is_help=True, help="What no broker takes: look at it, send it again, or leave it to the ledger."
)
app.add_typer(quarantine, name="quarantine")

ConfigFile: TypeAlias = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")]
OutboxFile: TypeAlias = Annotated[
    Path | None, typer.Option("--path", metavar="FILE", help="The outbox itself, without any config.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
UplinkName: TypeAlias = Annotated[str | None, typer.Option("--uplink", metavar="NAME", help="Only of this uplink.")]
Ids: TypeAlias = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `quarantine list` shows them.")]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All of it.")]


@app.command()
def status(config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, as_json: AsJson = False) -> None:
    """Say how much waits for each uplink, how much room there is, and how long it will last."""
    from gateway.cli.outbox import place, status

    with place.errors():
        status.run(place.find(config, path), as_json=as_json)


@app.command()
def show(
    config: ConfigFile = DEFAULT_CONFIG,
    path: OutboxFile = None,
    uplink: UplinkName = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the readings that go next, oldest first."""
    from gateway.cli.outbox import listing, place

    with place.errors():
        listing.readings(place.find(config, path), uplink, count, as_json=as_json)


@app.command()
def export(
    config: ConfigFile = DEFAULT_CONFIG,
    path: OutboxFile = None,
    uplink: UplinkName = None,
    form: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="One object a line, or one value a row.")
    ] = ("jsonl"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Without it: standard output.")
    ] = None,
) -> None:
    """Write out every reading that waits; they go on waiting."""
    from gateway.cli.outbox import export, place

    with place.errors():
        export.run(place.find(config, path), uplink, form, output)


@app.command()
def ledger(
    config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, uplink: UplinkName = None, as_json: AsJson = False
) -> None:
    """List what was lost: which readings, how many, and why."""
    from gateway.cli.outbox import listing, place

    with place.errors():
        listing.ledger(place.find(config, path), uplink, as_json=as_json)


@app.command()
def audit(config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, as_json: AsJson = False) -> None:
    """Check every block, and that taken in = delivered + waiting + lost, for each stream and epoch."""
    from gateway.cli.outbox import audit, place

    with place.errors():
        audit.run(place.find(config, path), as_json=as_json)


@app.command()
def trim(
    config: ConfigFile = DEFAULT_CONFIG,
    path: OutboxFile = None,
    uplink: UplinkName = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="7d", help="Give up what was measured longer ago than this.")
    ] = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give up readings that wait; the ledger says which, and so does its topic."""
    from gateway.cli.outbox import change, place

    with place.errors():
        change.trim(place.find(config, path), uplink, older_than, everything=everything, yes=yes)


@app.command()
def forget(
    uplink: Annotated[str, typer.Argument(metavar="UPLINK", help="As `status` shows it.")],
    config: ConfigFile = DEFAULT_CONFIG,
    path: OutboxFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let go of an uplink that is no longer in the config; the ledger says what it never got."""
    from gateway.cli.outbox import change, place

    with place.errors():
        change.forget(place.find(config, path), uplink, yes=yes)


@quarantine.command(name="list")
def list_(
    config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, uplink: UplinkName = None, as_json: AsJson = False
) -> None:
    """List what was set aside, and why."""
    from gateway.cli.outbox import listing, place

    with place.errors():
        listing.quarantine(place.find(config, path), uplink, as_json=as_json)


@quarantine.command()
def retry(
    ids: Ids = None, config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, everything: All = False
) -> None:
    """Send it again, as the newest; for example after the broker has learned to take it."""
    from gateway.cli.outbox import change, place

    with place.errors():
        change.quarantine(place.find(config, path), "retry", ids or [], everything=everything)


@quarantine.command()
def drop(
    ids: Ids = None, config: ConfigFile = DEFAULT_CONFIG, path: OutboxFile = None, everything: All = False
) -> None:
    """Give it up: that it is lost stands in the ledger already."""
    from gateway.cli.outbox import change, place

    with place.errors():
        change.quarantine(place.find(config, path), "drop", ids or [], everything=everything)
