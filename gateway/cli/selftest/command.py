"""`sensor-gateway selftest`: its options. What does the work is imported when it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

SECONDS = 120.0
"""How long it takes unless told otherwise, about."""
PACE = 4
"""Acts that are drawn for each second: more than can be done."""


def selftest(
    duration: Annotated[
        str | None, typer.Option("--for", metavar="2m", help="How long; nothing new begins after that. Default: 2m.")
    ] = None,
    kills: Annotated[int | None, typer.Option(min=0, help="SIGKILLs of the gateway.")] = None,
    faults: Annotated[int | None, typer.Option(min=0, help="Other faults, of each kind as many.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="What everything is drawn from. Default: a new one.")] = None,
    numbers: Annotated[
        str,
        typer.Option("--only", metavar="3,17", help="Of all that is drawn, only these numbers: to try a trace again."),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Where the outbox is kept meanwhile. Default: /tmp."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Copy outbox and log there if something is wrong.")
    ] = None,
    broker: Annotated[str, typer.Option(help="auto, mosquitto or amqtt.")] = "auto",
) -> None:
    """Have the gateway killed and all around it fail, at random, and prove that no reading is missing.

    Runs the gateway itself with simulated serial devices and two brokers on this machine, and touches nothing else.
    Takes about two minutes; with --kills or --faults, as long as these take. Exit status: 0 every reading was delivered
    or is in the ledger, 1 not so, 69 there is no broker to play with, or the gateway does not start.
    """
    from gateway.cli.selftest.play import Wish, main
    from gateway.units import parse_duration

    try:
        seconds = None if duration is None else parse_duration(duration)
        only = tuple(int(number) for number in numbers.split(",") if number)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if broker not in ("auto", "mosquitto", "amqtt"):
        raise typer.BadParameter("must be auto, mosquitto or amqtt", param_hint="--broker")
    if kills is None and faults is None:
        seconds = SECONDS if seconds is None else seconds
        faults = int(seconds) * PACE // 4 + 1
        kills = 3 * faults
    raise typer.Exit(
        main(
            Wish(
                seed=int.from_bytes(os.urandom(3)) if seed is None else seed,
                kills=kills or 0,
                faults=faults or 0,
                seconds=float("inf") if seconds is None else seconds,
                only=only,
                folder=folder,
                keep=keep,
                broker=broker,
            )
        )
    )
