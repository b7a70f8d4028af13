"""`sensor-gateway verify`: listen to a broker, and say what is missing and whether the ledger explains it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway import Client
    from gateway.proof import Proof, Report, Row

EX_UNEXPLAINED = 1
EX_UNAVAILABLE = 69  # sysexits.h: there is no broker
PATIENCE = 10.0
"""Seconds within which every broker must be there at the beginning."""
SPANS = 10
"""Unexplained gaps that are listed for each stream."""


def verify(
    brokers: Annotated[
        list[str], typer.Argument(metavar="URL...", help="mqtt://host, mqtts://, ws://, wss:// or unix:///path.")
    ],
    topic: Annotated[str, typer.Option(help="What to listen to; the ledger's topic should be in it.")] = "sensors/#",
    duration: Annotated[
        str | None, typer.Option("--for", metavar="60s", help="How long to listen. Without it: until Ctrl-C.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Started before the gateway: what is missing at the very beginning counts.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
    username: Annotated[str | None, typer.Option(help="User name at the brokers.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the password.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="Trust this authority instead of the system's.")
    ] = None,
    certificate: Annotated[str | None, typer.Option(metavar="FILE", help="The client's own certificate.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="The key of the certificate.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate for any name.")] = False,
    protocol: Annotated[str, typer.Option(help="MQTT version: auto, 5, 3.1.1 or 3.1.")] = "auto",
) -> None:
    """Prove that nothing is missing at a broker: gaps, duplicates, reorderings, and what the ledger explains.

    Listens, to several brokers at once if there are several, and at the end says for each stream and epoch what came.
    Exit status: 0 all that is missing is explained, 1 something is not or nothing came, 69 a broker is not there.
    """
    from gateway.proof import Proof
    from gateway.units import parse_duration

    try:
        seconds = None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if password_env is not None and password_env not in os.environ:
        raise typer.BadParameter(f"there is no environment variable {password_env}", param_hint="--password-env")
    session = Session(Proof(whole=whole))
    try:
        clients = [
            session.client(
                url,
                username=username,
                password=None if password_env is None else os.environ[password_env],
                tls=_tls(ca=ca, certificate=certificate, key=key, insecure=insecure),
                protocol=protocol,
            )
            for url in brokers
        ]
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    why = asyncio.run(session.listen(clients, topic, seconds))
    if why is not None:
        print(f"sensor-gateway verify: {why}", file=sys.stderr)
        raise typer.Exit(EX_UNAVAILABLE)
    if session.proof.remark is not None:
        print(f"sensor-gateway verify: {session.proof.remark}", file=sys.stderr)
    report = session.proof.report()
    if as_json:
        print(json.dumps({**as_dict(report), "links_lost": session.lost}))
    else:
        print_report(report, session.lost)
    raise typer.Exit(0 if report.proved else EX_UNEXPLAINED)


@dataclass
class Session:
    """What is listened for, and how often a link was lost meanwhile."""

    proof: Proof
    lost: int = 0

    def client(self, url: str, **options: Any) -> Client:
        """Return a client for one broker. Raises TypeError and ValueError."""
        from gateway import Client

        return Client(url, on_lost=self._on_lost, **options)

    async def listen(self, clients: Sequence[Client], topic: str, seconds: float | None) -> str | None:
        """Take what comes for `seconds`, or until SIGINT or SIGTERM; return why it could not be, if so."""
        from gateway import ClientError

        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            async with AsyncExitStack() as stack:
                for client in clients:
                    await stack.enter_async_context(client)
                    await client.connected(PATIENCE)
                    await client.subscribe(topic, lambda message: self.proof.take(message.topic, message.payload))
                with Progress(self.proof, loop, topic), suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await stop.wait()
        except (ClientError, ValueError) as error:
            return str(error)
        return None

    def _on_lost(self, _: object) -> None:
        self.lost += 1


class Progress:
    """On standard error: that it listens and, on a terminal, how many readings there are, a few times a second."""

    def __init__(self, proof: Proof, loop: asyncio.AbstractEventLoop, topic: str) -> None:
        from rich.console import Console

        self._proof = proof
        self._loop = loop
        self._words = f"listening to {topic}"
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._status = self._console.status(self._words)
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._status.start()
            self._tick()
        else:
            self._console.print(self._words)

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._status.stop()

    def _tick(self) -> None:
        from gateway.cli.tables import number

        self._status.update(f"{self._words}: {number(self._proof.received)} readings; Ctrl-C ends it")
        self._timer = self._loop.call_later(0.25, self._tick)


def as_dict(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it."""
    return {
        "proved": report.proved,
        "received": report.received,
        "unexplained": report.unknown,
        "ledger": report.entries,
        "others": report.others,
        "streams": [
            {
                "topic": row.topic,
                "epoch": row.epoch,
                "first": row.first,
                "last": row.last,
                "received": row.received,
                "missing": row.missing,
                "duplicates": row.duplicates,
                "reordered": row.reordered,
                "explained": dict(row.explained),
                "unexplained": [list(span) for span in row.unexplained],
            }
            for row in report.rows
        ],
    }


def _tls(**options: Any) -> Any:
    from gateway import Tls

    return Tls(**options) if any(options.values()) else None


def print_report(report: Report, lost: int) -> None:
    """Print the table, what nothing explains, and the verdict; `lost` is how often the link was lost meanwhile."""
    from gateway.cli.tables import number, plain, show

    console = plain()
    columns = ("topic", "epoch", "seq", "received", "missing", "twice", "reordered", "explained")
    if report.rows:
        show(columns, map(_cells, report.rows), console)
    for row in report.rows:
        for first, last in row.unexplained[:SPANS]:
            which = f"{first} is" if first == last else f"{first} to {last} are"
            console.print(f"{row.topic}, epoch {row.epoch}: seq {which} missing, and nothing explains it")
        if len(row.unexplained) > SPANS:
            console.print(f"{row.topic}, epoch {row.epoch}: and {len(row.unexplained) - SPANS} more gaps")
    if lost:
        console.print(f"The link of this very command was lost {lost} times: what came meanwhile is missing here.")
    if not report.received:
        console.print("No reading came, so nothing is proved.")
    elif report.unknown:
        console.print(f"{number(report.unknown)} of the missing readings are not explained.", style="bold red")
    else:
        console.print(f"{number(report.received)} readings: nothing is missing without an explanation.", style="green")


def _cells(row: Row) -> tuple[str | int, ...]:
    explained = ", ".join(f"{count} {reason}" for reason, count in sorted(row.explained.items()))
    came = f"{row.first}-{row.last}"
    return row.topic, str(row.epoch), came, row.received, row.missing, row.duplicates, row.reordered, explained
