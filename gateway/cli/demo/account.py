"""The demo's book-keeping: what the devices wrote, what the brokers saw, and whether it adds up."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.reading import RESERVED, Value, Values

Key = tuple[int, int]  # epoch and seq: with the device, the name of a reading for ever


class Arrivals:
    """Every reading that a broker has seen, told apart by device, epoch and seq."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.readings: dict[str, dict[Key, dict[str, Value]]] = defaultdict(dict)
        self.copies: dict[str, int] = defaultdict(int)  # arrivals of a reading that had arrived before

    def add(self, device: str, payload: str) -> None:
        """Enter one payload, as a broker received it. Raises ValueError or KeyError if it is no reading."""
        fields = json.loads(payload)
        key = (fields["epoch"], fields["seq"])
        if key in self.readings[device]:
            self.copies[device] += 1
        self.readings[device][key] = {name: value for name, value in fields.items() if name not in RESERVED}

    @property
    def unique(self) -> int:
        """How many different readings have arrived."""
        return sum(map(len, self.readings.values()))

    @property
    def duplicates(self) -> int:
        """How often a reading arrived that had arrived before."""
        return sum(self.copies.values())


class Row(NamedTuple):
    """One device's line of the account."""

    device: str
    written: int
    taken_in: int
    delivered: int
    duplicates: int


class Account(NamedTuple):
    """The whole account, and what is wrong with it. It is right when `problems` is empty."""

    rows: tuple[Row, ...]
    waiting: int
    ledger: int
    problems: tuple[str, ...]


def draw_up(
    written: Mapping[str, Sequence[Values]], taken_in: Mapping[str, int], arrivals: Arrivals, waiting: int, ledger: int
) -> Account:
    """Compare what each device wrote with what the gateway took in and what the brokers saw, reading by reading."""
    rows = tuple(
        Row(name, len(lines), taken_in.get(name, 0), len(arrivals.readings[name]), arrivals.copies[name])
        for name, lines in written.items()
    )
    problems = []
    for row in rows:
        if row.written == 0:
            problems.append(f"{row.device}: wrote nothing")
        if row.taken_in != row.written:
            problems.append(f"{row.device}: wrote {row.written} lines, the gateway took in {row.taken_in}")
        problems += _compare(row.device, written[row.device], arrivals.readings[row.device])
    delivered, total = sum(row.delivered for row in rows), sum(row.taken_in for row in rows)
    if total != delivered + waiting + ledger:
        problems.append(f"{total} taken in, but {delivered} delivered + {waiting} waiting + {ledger} in the ledger")
    if waiting:
        problems.append(f"{waiting} readings still wait in the outbox")
    return Account(rows, waiting, ledger, tuple(problems))


def _compare(device: str, written: Sequence[Values], arrived: Mapping[Key, Values]) -> list[str]:
    """Check that the nth line a device wrote arrived as seq n of one epoch, with the same values."""
    problems = []
    epochs = {epoch for epoch, _ in arrived}
    if len(epochs) > 1:
        problems.append(f"{device}: {len(epochs)} epochs, although the gateway ran once")
    for epoch in epochs:
        missing = [n for n in range(1, len(written) + 1) if (epoch, n) not in arrived]
        if missing:
            problems.append(f"{device}: {len(missing)} readings never arrived, the first is seq {missing[0]}")
        wrong = [n for n, values in enumerate(written, 1) if arrived.get((epoch, n), values) != values]
        if wrong:
            problems.append(f"{device}: {len(wrong)} readings arrived with other values, the first is seq {wrong[0]}")
        if strange := len([n for e, n in arrived if e == epoch and not 1 <= n <= len(written)]):
            problems.append(f"{device}: {strange} readings arrived that the device never wrote")
    return problems
