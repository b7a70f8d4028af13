"""The self-test as a person sees it: what is said on the way, the account, and the exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.selftest.account import COLUMNS, counts, summary
from gateway.cli.selftest.campaign import Campaign, Outcome, interruptible
from gateway.cli.selftest.card import library
from gateway.cli.selftest.destination import RigError, find_kind
from gateway.cli.selftest.rig import SUBJECT
from gateway.cli.selftest.schedule import Act, draw, only
from gateway.cli.tables import number, plain, show

MISSING = """The self-test needs MQTT brokers to play with, and there is neither mosquitto nor the package amqtt.
On a Debian or Raspberry Pi OS, type:  sudo apt-get install mosquitto
Otherwise, type:                       pip install 'sensor-gateway[demo]'"""
EX_WRONG, EX_UNAVAILABLE, EX_INTERRUPTED = 1, 69, 130
SHORTENING = 300.0
"""Seconds that may be spent on finding a shorter trace."""


@dataclass(frozen=True)
class Wish:
    """What is to be played. `seconds`: no act begins after so many."""

    seed: int
    kills: int
    faults: int
    seconds: float = float("inf")
    only: tuple[int, ...] = ()  # the numbers of acts; none: all of them
    folder: Path | None = None
    keep: Path | None = None
    broker: str = "auto"
    subject: str = SUBJECT
    shortening: float = SHORTENING

    @property
    def again(self) -> str:
        """How to play the same again."""
        words = f"sensor-gateway selftest --seed {self.seed} --kills {self.kills} --faults {self.faults}"
        return words if self.broker == "auto" else f"{words} --broker {self.broker}"


def main(wish: Wish) -> int:
    """Play it, print the account, and return the exit status: 0 when all adds up."""
    kind = find_kind(wish.broker)
    if kind is None:
        print(MISSING, file=sys.stderr)
        return EX_UNAVAILABLE
    cards = _can_fail()
    rounds = draw(wish.seed, wish.kills, wish.faults, cards=cards)
    if wish.only:
        rounds = only(rounds, frozenset(wish.only))
    print(f"seed {wish.seed}; two brokers, each {kind.name}; again: {wish.again}", flush=True)
    with Teller(sum(map(len, rounds))) as teller:
        campaign = Campaign(kind, wish.folder, wish.keep, wish.subject, cards, teller.tell)
        try:
            outcome, trace = asyncio.run(_play(campaign, rounds, wish, teller))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("\nStopped. Everything that the self-test had started has ended.", file=sys.stderr)
            return EX_INTERRUPTED
        except RigError as error:
            print(f"\nThe self-test cannot go on: {error}", file=sys.stderr)
            return EX_UNAVAILABLE
    _print(outcome)
    if not outcome.failed:
        return EX_WRONG if outcome.verdict.problems else 0
    print(f"\nThe shortest trace that was found ({len(trace)} of {len(outcome.failed)} acts of the round):")
    for act in trace:
        print(f"  after {act.pause:.2f} s: {act}")
    print(f"Again: {wish.again} --only {','.join(str(act.number) for act in trace)}")
    return EX_WRONG


async def _play(
    campaign: Campaign, rounds: Sequence[Sequence[Act]], wish: Wish, teller: Teller
) -> tuple[Outcome, list[Act]]:
    outcome = await interruptible(campaign.run(rounds, wish.seconds))
    if not outcome.failed:
        return outcome, []
    teller.say("looking for a shorter trace ...")
    campaign.tell, campaign.keep = (lambda *_: None), None
    return outcome, await interruptible(campaign.shorten(outcome.failed, wish.shortening))


class Teller:
    """Says what is done: a bar on a terminal, else a line for each act. Use as `with`."""

    def __init__(self, total: int) -> None:
        self._console = Console(soft_wrap=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)
        self._is_terminal = sys.stdout.isatty()

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._bar.stop()

    def tell(self, words: str, act: Act | None, outcome: Outcome) -> None:
        """Say that an act begins, or how a round has ended."""
        if act is None:
            self.say(words)
        elif self._is_terminal:
            self._bar.update(self._task, advance=1, description=escape(words))
        else:
            print(words, flush=True)

    def say(self, words: str) -> None:
        """Say something that is to stay."""
        if self._is_terminal:
            self._bar.console.print(escape(words))
        else:
            print(words, flush=True)


def _can_fail() -> bool:
    try:
        library()
    except OSError as error:
        print(f"LEFT OUT: the faults of the card. {error}", file=sys.stderr)
        return False
    return True


def _print(outcome: Outcome) -> None:
    verdict, console = outcome.verdict, plain()
    console.print(f"\n{counts(outcome.done)}; {number(outcome.runs)} runs of the gateway in {outcome.seconds:.0f} s")
    show(COLUMNS, summary(verdict), console)
    console.print(f"The oldest reading that a SIGKILL has cost was {verdict.longest:.2f} s old.")
    if verdict.taken:
        console.print(
            f"{number(verdict.taken)} readings were acknowledged by a broker that was killed before it passed them on."
        )
    for problem in verdict.problems:
        console.print(problem, style="bold red")
    if verdict.problems:
        console.print(f"{number(len(verdict.problems))} things are wrong.", style="bold red")
    else:
        console.print("Every reading was delivered, or the ledger explains it.", style="green")
