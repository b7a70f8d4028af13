"""The gateway as the self-test runs it: the service itself, on a card and by a clock that can be made to fail."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from gateway.cli.selftest.card import Card
from gateway.cli.selftest.levers import AILMENTS, Levers
from gateway.clock import Clock
from gateway.config import load
from gateway.service import run
from gateway.timesync import Sources


def main(config: str, levers: str, cards: bool) -> int:
    """Run until SIGTERM, and return the exit status. `cards`: whether the card can be made to fail."""
    with ExitStack() as stack:
        hold = stack.enter_context(Levers(Path(levers)))
        if cards:
            stack.enter_context(Card()).fault = _Fault(hold)
        clock = Clock(wall=lambda: time.time() + hold.ahead(), evidence=Sources())
        return run(load(Path(config)), file=Path(config), log_format="json", clock=clock)


class _Fault:
    """Asks the levers at each operation what is wrong with the card."""

    def __init__(self, levers: Levers) -> None:
        self._levers = levers

    def __call__(self, operation: str, number: int) -> int:
        now = self._levers.read()
        operations, code = AILMENTS[now.ailment]
        if operation not in operations or number % max(1, now.every):
            return 0
        time.sleep(now.pause)
        return code
