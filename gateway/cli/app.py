"""The commands that a person uses beside the service."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli import EX_SOFTWARE
from gateway.cli.capture import capture, replay
from gateway.cli.detect import detect
from gateway.cli.outbox import app as outbox
from gateway.cli.ports import ports
from gateway.cli.read import read
from gateway.cli.reload import reload
from gateway.cli.run import DEFAULT_CONFIG, EX_CONFIG
from gateway.cli.run import main as run_service
from gateway.cli.selftest.command import selftest
from gateway.cli.verify import verify

app = typer.Typer(
    name="sensor-gateway",
    help="Carries every sensor reading to MQTT brokers, and keeps what cannot be sent yet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # it shows the values of variables, and one of them could be a password
    add_completion=False,
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")]


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    try:
        app(list(arguments), prog_name="sensor-gateway")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1 if done.code else 0
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"sensor-gateway {version('sensor-gateway')} (Python {python})")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


# Its own parser answers --help, so that it says the same by whichever way it is asked.
@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def run(context: typer.Context) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    raise typer.Exit(run_service(context.args))


@app.command()
def check(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Say everything that is wrong in a config; touches neither hardware nor network."""
    from gateway.cli.summary import summary
    from gateway.config import ConfigError, load

    try:
        loaded = load(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EX_CONFIG) from None
    Console(soft_wrap=True, highlight=False).print(summary(config, loaded))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the config, with the keys of all installed adapters."""
    from gateway.config.schema import schema
    from gateway.registry import AdapterError

    try:
        print(json.dumps(schema(), indent=2, ensure_ascii=False))
    except AdapterError as error:
        print(f"sensor-gateway schema: {error}", file=sys.stderr)
        raise typer.Exit(EX_SOFTWARE) from None


@app.command()
def adapters() -> None:
    """List the installed adapters and the keys of their devices."""
    from gateway.cli.summary import adapters

    Console(soft_wrap=True, highlight=False).print(adapters())


@app.command()
def demo() -> None:
    """Run the main job here and now, without hardware and without a broker."""
    from gateway.cli.demo import main as play

    raise typer.Exit(play())


app.command()(reload)
app.command()(ports)
app.command()(detect)
app.command()(read)
app.command()(capture)
app.command()(replay)
app.command()(verify)
app.command()(selftest)
app.add_typer(outbox, name="outbox")
