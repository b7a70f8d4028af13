"""The account of a round: what is missing, wrong or from nowhere is found, and what the ledger explains is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.selftest.account import Verdict, judge, summary
from gateway.cli.selftest.destination import Arrival
from gateway.cli.selftest.line import Line, values
from gateway.cli.selftest.rig import Evidence
from gateway.cli.selftest.runs import Run
from gateway.outbox import Loss

START = 1_800_000_000.0
INTERVAL = 0.3


class Case:
    """One device; run 1 has read lines 1 to 50 and was killed, run 2 lines 51 to 100 and was stopped in order."""

    def __init__(self) -> None:
        self.line = Line("boiler", "json", Path("nowhere"), 40.0)
        for n in range(100):
            self.line.written.append(START + n / 10)
            self.line.read.append(START + n / 10 + 0.02)
        self.evidence = Evidence(clock=[(START - 1, 0.0)])
        self.evidence.runs = [
            Run(START, 7, START, START + 5.0, -9, {"boiler": (1, 51)}),
            Run(START + 5, 8, START + 5, START + 10, 0, {"boiler": (51, 101)}),
        ]
        for n in range(1, 101):
            self.arrive(n)
        self.ledger: list[Loss] = []

    def arrive(self, n: int, /, **other: Any) -> None:
        epoch, seq = (7, n) if n <= 50 else (8, n - 50)
        told = {"ts": round((START + (n - 1) / 10 + 0.01) * 1000), "seq": seq, "epoch": epoch, **values(n), **other}
        self.evidence.arrivals.append(
            Arrival("sensors/selftest/boiler", json.dumps(told).encode(), START + (n - 1) / 10 + 0.1)
        )

    def lose(self, *numbers: int) -> None:
        for n in numbers:
            self.evidence.arrivals = [each for each in self.evidence.arrivals if json.loads(each.payload).get("n") != n]

    def enter(self, first: int, reason: str = "crash-window", *, count: int = 0, epoch: int = 7) -> None:
        last = first + max(0, count - 1)
        loss = Loss("cloud", "boiler", epoch, first, last, 0.0, 0.0, count, reason)
        self.ledger.append(loss)
        told = {"uplink": "cloud", "stream": "boiler", "stream_epoch": epoch, "first_seq": first, "last_seq": last}
        told |= {"count": count, "reason": reason, "topic": "sensors/selftest/boiler", "seq": 1, "epoch": 8, "ts": 0}
        self.evidence.arrivals.append(Arrival("sensors/selftest/ledger", json.dumps(told).encode(), START + 11))

    def judged(self) -> Verdict:
        return judge(self.evidence, [self.line], self.ledger, [], INTERVAL)


@pytest.fixture
def case() -> Case:
    return Case()


def test_a_whole_round_is_right(case: Case) -> None:
    """All that was written has arrived."""
    case.arrive(20)
    verdict = case.judged()
    assert verdict.problems == []
    assert summary(verdict)[0] == ("boiler", 100, 100, 0, 0, 1, "")


def test_the_end_of_a_killed_run_is_explained(case: Case) -> None:
    """What was read less than `commit_interval` before a SIGKILL may be missing, if the ledger says so."""
    case.lose(49, 50)
    case.enter(49)
    verdict = case.judged()
    assert verdict.problems == []
    assert summary(verdict)[0] == ("boiler", 100, 98, 2, 0, 0, "2 crash-window")
    assert 0.05 < verdict.longest < 0.3


def test_a_hole_that_no_entry_explains_is_found(case: Case) -> None:
    """By the receiver's proof and by the ledger."""
    case.lose(10)
    verdict = case.judged()
    assert len(verdict.problems) == 2
    assert summary(verdict)[0][4] == 1


def test_an_end_that_no_entry_explains_is_found(case: Case) -> None:
    """The receiver alone cannot know that there was more; the device does."""
    case.lose(49, 50)
    verdict = case.judged()
    assert [problem for problem in verdict.problems if "the ledger does not know" in problem]


def test_more_than_the_interval_is_too_much(case: Case) -> None:
    """What should have been on the card is missing, whatever the ledger says about that end."""
    case.lose(*range(20, 51))
    case.enter(20)
    assert [problem for problem in case.judged().problems if "should have been on the card" in problem]


def test_a_card_that_was_ill_excuses_what_came_since(case: Case) -> None:
    """From the beginning of its illness on, nothing can have been written, and from before it nothing is missing."""
    case.lose(*range(30, 51))
    case.enter(30)
    case.evidence.ill.append((START + 3.0, START + 9.0))
    assert case.judged().problems == []
    case.lose(*range(10, 51))
    case.enter(10)
    assert case.judged().problems


def test_an_orderly_stop_loses_nothing(case: Case) -> None:
    """Not even what the ledger would explain."""
    case.lose(100)
    case.enter(50, epoch=8)
    assert [problem for problem in case.judged().problems if "stopped in order" in problem]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"n": 101}, "was never written"),
        ({"x": -1.0}, "was never written"),
        ({"extra": 1}, "was never written"),
        ({"seq": 6}, "another seq"),
        ({"epoch": 9}, "two epochs"),
        ({"ts": round((START + 9) * 1000)}, "wrong time"),
        ({"ts": round((START - 1) * 1000)}, "wrong time"),
    ],
)
def test_what_was_not_written_like_that_is_found(case: Case, other: dict[str, Any], words: str) -> None:
    """A value, a place or a time that is not what the device wrote is a problem, though nothing is missing."""
    case.arrive(5, **other)
    assert [problem for problem in case.judged().problems if words in problem]


def test_while_the_clock_was_wrong_so_may_the_times_be(case: Case) -> None:
    """By as much as it was ahead between the writing and the arrival, and by nothing else."""
    case.evidence.clock += [(START + 1.45, 500.0), (START + 1.48, 0.0)]
    case.arrive(15, ts=round((START + 501.41) * 1000))
    assert case.judged().problems == []
    case.arrive(15, ts=round((START + 401.41) * 1000))
    case.arrive(35, ts=round((START + 503.41) * 1000))
    assert len(case.judged().problems) == 2


def test_what_a_killed_broker_took_with_it_is_delivered(case: Case) -> None:
    """It had acknowledged that, and the gateway can do no more."""
    taken = case.evidence.arrivals.pop(9)
    case.evidence.taken.append(taken)
    verdict = case.judged()
    assert verdict.problems == []
    assert verdict.taken == 1


def test_a_run_of_which_nothing_arrived_needs_an_entry_of_its_own(case: Case) -> None:
    """Nobody knows its epoch, but there is an entry for one between those of its neighbours."""
    run = Run(START + 5, None, None, START + 5.1, -9, {"boiler": (51, 52)})
    case.evidence.runs.insert(1, run)
    case.evidence.runs[2] = Run(START + 5.1, 9, START + 6, START + 10, 0, {"boiler": (52, 101)})
    kept = case.evidence.arrivals[:50]
    case.evidence.arrivals = kept
    for n in range(52, 101):
        case.arrive(n, epoch=9, seq=n - 51)
    assert [problem for problem in case.judged().problems if "the ledger does not know" in problem]
    run.epoch = None
    case.ledger.append(Loss("cloud", "?", 8, 0, 0, 0.0, 0.0, 0, "crash-window"))
    assert case.judged().problems == []
