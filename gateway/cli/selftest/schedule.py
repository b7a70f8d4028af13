"""What will be done to the gateway and to all around it, and when, drawn from a seed and nothing else. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROUND = 60
"""Acts after which everything is let run out, and the account has to add up."""
BROKERS = ("first", "second")
DEVICES = ("boiler", "meter", "scale")
AILMENTS = ("full", "read-only", "failing to write", "failing to sync", "failing to read", "slow")


class Act(NamedTuple):
    """One thing that is done, `pause` seconds after the one before it. It is over, if it ever is, after `lasts`."""

    number: int
    kind: str
    pause: float = 0.0
    target: str = ""
    way: str = ""
    amount: float = 0.0
    lasts: float = 0.0

    @property
    def is_kill(self) -> bool:
        """Whether it is a SIGKILL of the gateway."""
        return self.kind == "kill"

    def __str__(self) -> str:
        """Say it in a line."""
        return f"#{self.number} {WORDS[self.kind].format(act=self, lasts=f'{self.lasts:.2f} s')}"


WORDS = {
    "kill": "SIGKILL to the gateway {act.amount:.3f} s after it {act.way}",
    "stop": "SIGTERM to the gateway {act.amount:.3f} s after it {act.way}",
    "broker killed": "the {act.target} broker is killed, and is back after {lasts}",
    "broker frozen": "the {act.target} broker is frozen for {lasts}",
    "cut": "the link to the {act.target} broker is cut after {act.amount:.0f} bytes of the next packets {act.way}",
    "half-open": "the link to the {act.target} broker swallows all that goes {act.way} for {lasts}",
    "slow link": "the link to the {act.target} broker carries {act.amount:.0f} bytes/s for {lasts}",
    "refused": "the {act.target} broker hangs up on whoever comes for {lasts}",
    "card": "the card is {act.way} for {lasts}",
    "clock": "the clock is set {act.amount:+.0f} s, and back after {lasts}",
    "unplugged": "{act.target} is unplugged for {lasts}",
}


def draw(seed: int, kills: int, faults: int, *, cards: bool = True) -> list[list[Act]]:
    """Return rounds of acts: so many SIGKILLs of the gateway and so many others, each kind as often, in random order.

    `cards`: whether the card can be made to fail.
    """
    source = random.Random(seed)  # noqa: S311 - repeatable is what it has to be
    kinds = [kind for kind in DRAWN if cards or kind != "card"]
    order = ["kill"] * kills + [kinds[at % len(kinds)] for at in range(faults)]
    source.shuffle(order)
    ways = {"card": source.sample(AILMENTS, len(AILMENTS))}
    acts = [DRAWN.get(kind, _kill)(source, number, ways) for number, kind in enumerate(order, 1)]
    return [acts[at : at + ROUND] for at in range(0, len(acts), ROUND)]


def only(rounds: Sequence[Sequence[Act]], numbers: frozenset[int]) -> list[list[Act]]:
    """Return the acts of these numbers, as one round."""
    return [[act for acts in rounds for act in acts if act.number in numbers]]


Ways = dict[str, list[str]]
"""Of a kind of fault: the ways it has, each to be drawn as often."""


def _kill(source: random.Random, number: int, _: Ways) -> Act:
    if source.random() < 0.25:
        return Act(number, "kill", way="was started", amount=source.uniform(0.0, 0.3))
    return Act(number, "kill", way="was ready", amount=min(3.0, source.expovariate(2.0)))


def _stop(source: random.Random, number: int, _: Ways) -> Act:
    return Act(number, "stop", way="was ready", amount=source.uniform(0.0, 1.0))


def _lasting(kind: str, shortest: float, longest: float, targets: Sequence[str]) -> Callable[..., Act]:
    def drawn(source: random.Random, number: int, _: Ways) -> Act:
        lasts = source.uniform(shortest, longest)
        return Act(number, kind, _pause(source), source.choice(targets), lasts=lasts)

    return drawn


def _cut(source: random.Random, number: int, _: Ways) -> Act:
    way = source.choice(("up", "down"))
    return Act(number, "cut", _pause(source), source.choice(BROKERS), way, float(source.randrange(1, 120)))


def _half_open(source: random.Random, number: int, _: Ways) -> Act:
    way = source.choice(("up", "down", "up and down"))
    return Act(number, "half-open", _pause(source), source.choice(BROKERS), way, lasts=source.uniform(0.2, 2.5))


def _slow_link(source: random.Random, number: int, _: Ways) -> Act:
    rate = 10 ** source.uniform(2.5, 4.5)
    target, lasts = source.choice(BROKERS), source.uniform(0.3, 2.0)
    return Act(number, "slow link", _pause(source), target, amount=rate, lasts=lasts)


def _card(source: random.Random, number: int, ways: Ways) -> Act:
    way = ways["card"].pop(0)
    ways["card"].append(way)
    amount = source.uniform(0.05, 1.0) if way == "slow" else float(source.choice((1, 1, 2, 5)))
    return Act(number, "card", _pause(source), way=way, amount=amount, lasts=source.uniform(0.2, 2.0))


def _clock(source: random.Random, number: int, _: Ways) -> Act:
    ahead = source.choice((-1, 1)) * 10 ** source.uniform(0.5, 8.5)
    return Act(number, "clock", _pause(source), amount=ahead, lasts=source.uniform(0.2, 2.0))


def _pause(source: random.Random) -> float:
    return source.uniform(0.0, 0.4)


DRAWN: dict[str, Callable[[random.Random, int, Ways], Act]] = {
    "stop": _stop,
    "broker killed": _lasting("broker killed", 0.1, 1.5, BROKERS),
    "broker frozen": _lasting("broker frozen", 0.2, 2.5, BROKERS),
    "cut": _cut,
    "half-open": _half_open,
    "slow link": _slow_link,
    "refused": _lasting("refused", 0.2, 2.0, BROKERS),
    "card": _card,
    "clock": _clock,
    "unplugged": _lasting("unplugged", 0.1, 1.5, DEVICES),
}
"""All kinds but SIGKILL, and how each is drawn."""
