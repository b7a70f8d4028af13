"""The account of a round: every line that a device has written has arrived, or the ledger explains it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from gateway.cli.selftest.destination import Arrival
from gateway.cli.selftest.line import Line, values
from gateway.cli.selftest.rig import Evidence
from gateway.outbox import Loss
from gateway.proof import Proof
from gateway.reading import LEDGER, RESERVED

SLACK = 0.7
"""Seconds by which what is done on a busy machine may be late: the look that finds a line read, and a transaction."""
EARLY, LATE = 0.05, 0.5
"""Seconds by which the time of a reading may be before its line was written, and after it was found to be read."""
WINDOW = "crash-window"
SHOWN = 3
"""Problems of one kind that are told."""


@dataclass
class Row:
    """One device: each line that it has written has been delivered or is in the ledger."""

    device: str
    written: int = 0
    delivered: int = 0
    twice: int = 0  # arrivals of what had arrived before
    lost: Counter[str] = field(default_factory=Counter)  # by the ledger's reason


@dataclass
class Verdict:
    """The account, and what is wrong with it: it is right when `problems` is empty."""

    rows: dict[str, Row] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds: the oldest reading that a SIGKILL has cost, counted from when it was read, while the card was well."""
    taken: int = 0  # readings that nobody but a broker that was killed had

    def add(self, other: Verdict) -> None:
        """Add the account of another round."""
        for name, row in other.rows.items():
            mine = self.rows.setdefault(name, Row(name))
            mine.written += row.written
            mine.delivered += row.delivered
            mine.twice += row.twice
            mine.lost += row.lost
        self.problems += other.problems
        self.longest = max(self.longest, other.longest)
        self.taken += other.taken


class Told(NamedTuple):
    """A reading as it arrived."""

    epoch: int
    seq: int
    number: int  # of its line
    time: float
    at: float  # when it arrived


def judge(
    evidence: Evidence, lines: Iterable[Line], ledger: Sequence[Loss], audited: Iterable[str], interval: float
) -> Verdict:
    """Draw up the account of a round.

    `ledger` and `audited`, the contradictions that an audit has found, are what the card says at the end of it;
    `interval` is the `commit_interval`.
    """
    verdict = Verdict(problems=[*evidence.problems, *(f"outbox audit: {words}" for words in audited)])
    proof = Proof(whole=True)
    for arrival in (*evidence.arrivals, *evidence.taken):
        proof.take(arrival.topic, arrival.payload)
    report = proof.report()
    for row in report.rows:
        for first, last in row.unexplained[:SHOWN]:
            verdict.problems.append(f"verify: {row.topic}, epoch {row.epoch}: seq {first} to {last} is unexplained")
    verdict.taken = len({arrival[:2] for arrival in evidence.taken})
    for line in lines:
        _Judge(line, evidence, ledger, interval, verdict).judge()
    return verdict


class _Judge:
    """Judges one device."""

    def __init__(
        self, line: Line, evidence: Evidence, ledger: Sequence[Loss], interval: float, verdict: Verdict
    ) -> None:
        self._line = line
        self._evidence = evidence
        self._losses = [loss for loss in ledger if loss.stream in (line.name, "?")]
        self._interval = 0.0 if line.priority == "high" else interval  # which is on the card at once
        self._verdict = verdict
        self._row = verdict.rows[line.name] = Row(line.name)
        self._runs = [run for run in evidence.runs if run.lines[line.name][0] < run.lines[line.name][1]]
        self._firsts = [run.lines[line.name][0] for run in self._runs]
        self._said: Counter[str] = Counter()

    def judge(self) -> None:
        arrived: set[int] = set()
        for told in self._readings((*self._evidence.arrivals, *self._evidence.taken)):
            self._check(told)
            self._row.twice += told.number in arrived
            arrived.add(told.number)
        self._row.written = sum(run.lines[self._line.name][1] - run.lines[self._line.name][0] for run in self._runs)
        for at, run in enumerate(self._runs):
            first, end = run.lines[self._line.name]
            for number in range(first, end):
                if number in arrived:
                    self._row.delivered += 1
                else:
                    self._missing(at, number)

    def _readings(self, arrivals: Iterable[Arrival]) -> Iterable[Told]:
        """Yield what arrived of this device, and say what is not as it was written."""
        topic = f"/{self._line.name}"
        for arrival in arrivals:
            if not arrival.topic.endswith(topic) or arrival.topic.endswith(f"/{LEDGER}"):
                continue
            content = orjson.loads(arrival.payload)
            number = content.get("n")
            said = {name: value for name, value in content.items() if name not in RESERVED}
            if type(number) is not int or said != values(number):
                self._say("was never written", f"{arrival.payload!r}")
                continue
            yield Told(content["epoch"], content["seq"], number, content["ts"] / 1000, arrival.at)

    def _check(self, told: Told) -> None:
        """Check that a reading is of the run that has read its line, has its place there, and its time."""
        at = bisect_right(self._firsts, told.number) - 1
        if at < 0 or told.number >= self._runs[at].lines[self._line.name][1]:
            self._say("is of no run of this round", f"line {told.number}")
            return
        run = self._runs[at]
        if run.epoch is None:
            run.epoch = told.epoch
        if run.epoch != told.epoch:
            self._say("came in two epochs", f"line {told.number}: {run.epoch} and {told.epoch}")
        expected = told.number - self._firsts[at] + 1
        if told.seq != expected:
            self._say("has another seq", f"line {told.number}, epoch {told.epoch}: {told.seq}, and not {expected}")
        written, read = self._line.written[told.number - 1], self._line.read[told.number - 1]
        ahead = _in_force(self._evidence.clock, written, told.at)
        if not any(written - EARLY <= told.time - each <= read + LATE for each in ahead):
            late = told.time - read
            self._say("has a wrong time", f"line {told.number}, epoch {told.epoch}: {late:+.3f} s after it was read")

    def _missing(self, at: int, number: int) -> None:
        """Find what explains that a line did not arrive, and whether that may be."""
        run = self._runs[at]
        seq = number - self._firsts[at] + 1
        age = run.ended - self._line.read[number - 1]  # it was this old, at the least, when the run ended
        how = "in order" if run.status == 0 else f"with status {run.status}"
        where = f"line {number}, epoch {run.epoch}, seq {seq}, {age:.2f} s before its run ended {how}"
        reasons = {loss.reason for loss in self._losses if self._concerns(loss, at, seq)}
        if not reasons:
            self._say("is missing, and the ledger does not know", where)
            return
        ill = [start for start, end in self._evidence.ill if start <= run.ended <= end]
        in_time = age <= self._interval + SLACK or self._line.read[number - 1] >= min(ill, default=run.ended) - SLACK
        if WINDOW in reasons and (in_time or reasons == {WINDOW}):
            self._row.lost[WINDOW] += 1
            if not ill:
                self._verdict.longest = max(self._verdict.longest, age)
            if run.status == 0 and not ill:  # on a card that takes nothing, it has nowhere to put what no broker takes
                self._say("is missing although its run stopped in order", where)
            if not in_time:
                self._say("is missing although it should have been on the card", where)
        else:
            self._row.lost[min(reasons - {WINDOW})] += 1

    def _concerns(self, loss: Loss, at: int, seq: int) -> bool:
        run = self._runs[at]
        if run.epoch is None:  # none of its readings has arrived: it is one of those between its neighbours
            before = next((each.epoch for each in reversed(self._runs[:at]) if each.epoch is not None), 0)
            after = next((each.epoch for each in self._runs[at + 1 :] if each.epoch is not None), 1 << 40)
            if not before < loss.epoch < after:
                return False
        elif run.epoch != loss.epoch:
            return False
        if loss.stream == "?" or not loss.first_seq:
            return True
        return loss.first_seq <= seq and (not loss.count or seq <= loss.last_seq)

    def _say(self, what: str, which: str) -> None:
        self._said[what] += 1
        if self._said[what] <= SHOWN:
            self._verdict.problems.append(f"{self._line.name}: a reading {what}: {which}")
        elif self._said[what] == SHOWN + 1:
            self._verdict.problems.append(f"{self._line.name}: and more such")


def _in_force(clock: Sequence[tuple[float, float]], start: float, end: float) -> set[float]:
    """Return by how many seconds the clock was ahead from `start` to `end`, all that there were."""
    first = max(0, bisect_right([since for since, _ in clock], start) - 1)
    return {ahead for since, ahead in clock[first:] if since <= end}


def summary(verdict: Verdict) -> list[tuple[str | int, ...]]:
    """Return a row for each device, and the sum: written, delivered, in the ledger, unexplained, twice."""
    rows: list[tuple[str | int, ...]] = []
    total = Row("all")
    for row in verdict.rows.values():
        rows.append(_cells(row))
        for name in ("written", "delivered", "twice"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        total.lost += row.lost
    return [*rows, _cells(total)]


COLUMNS = ("device", "written", "delivered", "in the ledger", "unexplained", "twice", "why")


def _cells(row: Row) -> tuple[str | int, ...]:
    lost = row.lost.total()
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(row.lost.items()))
    return row.device, row.written, row.delivered, lost, row.written - row.delivered - lost, row.twice, why


def counts(acts: Mapping[str, int]) -> str:
    """Say in a line how often each kind of act was done."""
    return ", ".join(f"{count} {kind}" for kind, count in acts.items())
