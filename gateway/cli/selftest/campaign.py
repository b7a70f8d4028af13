"""The campaign: round after round, each with its account, until one does not add up; then the shortest trace of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.cli.selftest.account import Verdict, judge
from gateway.cli.selftest.destination import Kind
from gateway.cli.selftest.rig import INTERVAL, SUBJECT, Rig
from gateway.cli.selftest.schedule import Act
from gateway.cli.selftest.shrink import shrink
from gateway.outbox.audit import audit
from gateway.outbox.inspection import Inspection

T = TypeVar("T")

TRIES = 20
"""Attempts to find a shorter trace, at most."""
PREFIX = "sensor-gateway-selftest-"


@dataclass
class Outcome:
    """What a campaign has found."""

    verdict: Verdict = field(default_factory=Verdict)
    done: Counter[str] = field(default_factory=Counter)  # acts, by kind
    runs: int = 0  # of the gateway
    seconds: float = 0.0
    failed: list[Act] = field(default_factory=list)
    """The acts of the round that did not add up."""


@dataclass
class Campaign:
    """What a campaign is made of. `subject`: what is run as the gateway; `folder`: where its files are."""

    kind: Kind
    folder: Path | None = None
    keep: Path | None = None
    """Where a copy of these files goes when the account is not right."""
    subject: str = SUBJECT
    cards: bool = True
    tell: Callable[[str, Act | None, Outcome], None] = lambda *_: None
    """Told of each act as it begins, and of each round as it ends."""

    async def run(self, rounds: Sequence[Sequence[Act]], seconds: float = float("inf")) -> Outcome:
        """Play the rounds on one outbox, until one does not add up. No act begins after `seconds`. Raises RigError."""
        outcome, began = Outcome(), time.monotonic()
        until = asyncio.get_running_loop().time() + seconds
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self.folder, ignore_cleanup_errors=True) as folder:
            async with Rig(Path(folder), self.kind, self.subject, cards=self.cards) as rig:
                for number, acts in enumerate(rounds, 1):
                    if asyncio.get_running_loop().time() >= until:
                        break
                    played: list[Act] = []
                    verdict = await self._round(rig, acts, played, outcome, until)
                    outcome.seconds = time.monotonic() - began
                    outcome.verdict.add(verdict)
                    outcome.runs = len(rig.gateway.runs)
                    words = "; ".join(verdict.problems) or "the account is right"
                    self.tell(f"round {number} of {len(rounds)}: {words}", None, outcome)
                    if verdict.problems:
                        outcome.failed = played
                        break
            if outcome.failed and self.keep is not None:
                shutil.copytree(folder, self.keep, dirs_exist_ok=True, ignore=_is_no_file)
        return outcome

    async def shorten(self, acts: Sequence[Act], seconds: float) -> list[Act]:
        """Return the shortest trace that fails, as far as it can be found within `seconds`."""
        ends, tries = time.monotonic() + seconds, iter(range(TRIES))

        async def fails(some: list[Act]) -> bool:
            return bool((await self.run([some], ends - time.monotonic())).failed)

        return await shrink(acts, fails, lambda: time.monotonic() < ends and next(tries, None) is not None)

    async def _round(self, rig: Rig, acts: Sequence[Act], played: list[Act], outcome: Outcome, until: float) -> Verdict:
        def begins(act: Act) -> None:
            played.append(act)
            outcome.done[act.kind] += 1
            self.tell(str(act), act, outcome)

        evidence = await rig.play(acts, begins, until)

        def look() -> Verdict:
            with Inspection(rig.outbox) as card:
                return judge(evidence, rig.lines, card.ledger(), audit(card).problems, INTERVAL)

        return look()


def _is_no_file(folder: str, names: list[str]) -> list[str]:
    """Leave out what cannot be copied: sockets and links to terminals."""
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Let a hang-up or a polite kill take everything down in order, as Ctrl-C does."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task
