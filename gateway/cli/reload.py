"""`sensor-gateway reload`: have the running service read its config again, or say what it would change."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gateway.cli.run import DEFAULT_CONFIG, EX_CONFIG

EX_REFUSED, EX_NOPERM = 69, 77  # sysexits.h
STATE = "/var/lib/sensor-gateway"
"""What systemd gives the service as its state directory."""


def reload(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The config.")] = DEFAULT_CONFIG,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="FILE", help="The outbox of the service, where it is elsewhere.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Have the running service read its config again; what is the same is not touched.

    Exit status: 0 done, 69 the service refuses or does not run, 77 it belongs to another user, 78 the config is wrong
    and nothing has changed.
    """
    from gateway.config import ConfigError
    from gateway.control import Refused, ask, place

    try:
        outbox = path or _outbox(config)
        told = ask(place(outbox), "reload", file=str(config.absolute()), dry=dry_run)
    except ConfigError as error:
        _wrong(str(error))
    except PermissionError:
        _say("the service belongs to another user: try again as that user, or as root", EX_NOPERM)
    except (FileNotFoundError, ConnectionRefusedError):
        where = "" if path or config.exists() else f"there is no {config}, and "
        words = f"{where}no service listens beside {outbox}: does it run? If its outbox is elsewhere, say --path"
        _say(words, EX_REFUSED)
    except (Refused, OSError) as error:
        _say(str(error), EX_REFUSED)
    if "problems" in told:
        _wrong("\n".join(told["problems"]))
    for line in lines(told):
        print(line)


def _outbox(config: Path) -> Path:
    """Return where the service has its outbox: where the config says, else where systemd or a user would have it."""
    from gateway.config import load_outbox
    from gateway.control import place

    found = [load_outbox(config, environ={**os.environ, **more}).path for more in ({}, {"STATE_DIRECTORY": STATE})]
    return next((outbox for outbox in found if place(outbox).exists()), found[0])


def lines(told: dict[str, Any]) -> list[str]:
    """Write for a person what a reload changes."""
    found = [
        f"{what} {kind}: {', '.join(names)}"
        for what in ("devices", "uplinks")
        for kind, names in told.get(what, {}).items()
    ]
    found += [f"changed: {', '.join(told['commands'])}"] if "commands" in told else []
    if "restart_to_apply" in told:
        found.append(f"restart the service to apply: {', '.join(told['restart_to_apply'])}")
    return found or ["nothing differs"]


def _wrong(problems: str) -> NoReturn:
    print(problems, file=sys.stderr)
    _say("nothing has changed: the config is wrong", EX_CONFIG)


def _say(words: str, status: int) -> NoReturn:
    print(f"sensor-gateway reload: {words}", file=sys.stderr)
    raise typer.Exit(status)
