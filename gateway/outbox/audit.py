"""The account as the card has it: taken in = delivered + waiting + in the ledger, and what contradicts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from gateway.outbox.card.block import DamagedBlock
from gateway.outbox.inspection import Block, Inspection
from gateway.outbox.ledger import Loss
from gateway.outbox.ranges import Ranges
from gateway.reading import EPOCH_SHIFT, Reading

Stream = tuple[str, int]
"""A stream and an epoch."""


@dataclass(slots=True)
class Line:
    """One stream of one epoch, as far as the card knows: of what was delivered it may have heard nothing."""

    uplink: str
    stream: str
    epoch: int
    taken_in: int  # at least: the highest seq that is known
    waiting: int
    lost: int

    @property
    def delivered(self) -> int:
        """At least so many were."""
        return self.taken_in - self.waiting - self.lost


@dataclass(slots=True)
class Audit:
    """The account, and what is wrong with it. It adds up when `problems` is empty."""

    lines: list[Line] = field(default_factory=list)
    blocks: int = 0
    readings: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Card:
    """What the blocks hold."""

    highest: dict[Stream, int] = field(default_factory=dict)
    waiting: dict[str, dict[Stream, Ranges]] = field(default_factory=dict)  # by uplink: the seqs


def audit(card: Inspection) -> Audit:
    """Read all that is on the card, as it is at this moment, and draw up the account. May raise sqlite3.Error."""
    card.snapshot()
    found = Audit()
    lack = {uplink: card.lacking(uplink) for uplink in card.uplinks()}
    contents = _Card(waiting={uplink: {} for uplink in lack})
    ledger = card.ledger()
    epochs = set(card.offsets())
    end = 0
    if unknown := card.salvaged_below():
        found.problems.append("what a damaged file held is still being salvaged: until then, it is not in the account")
    for block in card.blocks():
        if block.first < unknown:
            continue
        found.blocks += 1
        try:
            readings = block.decode()
        except DamagedBlock as error:
            found.problems.append(f"block {_name(block.first)} to {_name(block.last)} is damaged: {error}")
            continue
        found.readings += len(readings)
        found.problems += _check(block, readings, end, epochs)
        end = block.last + 1
        _enter(readings, lack, contents, found)
    lost = _lost(ledger, contents, found)
    found.problems += [f"what is set aside as {_name(one)} is damaged" for one, _ in _damaged_aside(card)]
    _draw_up(contents, lost, found)
    return found


def _check(block: Block, readings: list[Reading], end: int, epochs: set[int]) -> Iterator[str]:
    """Yield what is wrong with a block in itself, and after one that ends before id `end`."""
    name = f"block {_name(block.first)} to {_name(block.last)}"
    ids = [reading.id for reading in readings]
    if not ids or (ids[0], ids[-1], len(ids)) != (block.first, block.last, block.length):
        yield f"{name} does not hold what its row says"
    if any(a >= b for a, b in pairwise(ids)):
        yield f"{name} is out of order"
    if block.first < end:
        yield f"{name} overlaps the one before it"
    if missing := {reading.epoch for reading in readings} - epochs:
        yield f"{name} is of epoch {min(missing)}, which the card does not know"


def _enter(readings: list[Reading], lack: dict[str, Callable[[Reading], bool]], card: _Card, found: Audit) -> None:
    for reading in readings:
        stream = (reading.stream, reading.epoch)
        if reading.seq <= card.highest.get(stream, 0):
            found.problems.append(f"{reading.stream}, epoch {reading.epoch}: seq {reading.seq} comes twice or too late")
        card.highest[stream] = max(card.highest.get(stream, 0), reading.seq)
        for uplink, lacks in lack.items():
            if lacks(reading):
                card.waiting[uplink].setdefault(stream, Ranges()).add(reading.seq, reading.seq + 1)


def _lost(ledger: list[Loss], card: _Card, found: Audit) -> dict[tuple[str, Stream], int]:
    """Return how many of each uplink and stream are in the ledger."""
    lost: dict[tuple[str, Stream], int] = {}
    for loss in ledger:
        stream = (loss.stream, loss.epoch)
        words = f"the ledger of {loss.uplink}, {loss.stream}, epoch {loss.epoch}, {loss.reason}"
        named = loss.first_seq > 0
        span = loss.last_seq - loss.first_seq + 1
        if loss.count < 0 or ((named and not span > 0) or (named and loss.count > span)):
            found.problems.append(f"{words}: {loss.count} from {loss.first_seq} to {loss.last_seq} cannot be")
        waiting = card.waiting.get(loss.uplink, {}).get(stream)
        still = waiting.overlap(loss.first_seq, loss.last_seq + 1) if waiting is not None and named else 0
        if still and loss.count and loss.count + still > span:
            seqs = f"{loss.first_seq} to {loss.last_seq}"
            found.problems.append(f"{words}: {loss.count} from {seqs}, of which {still} still wait")
        lost[loss.uplink, stream] = lost.get((loss.uplink, stream), 0) + loss.count
        if named and loss.count:
            card.highest[stream] = max(card.highest.get(stream, 0), loss.last_seq)
    return lost


def _draw_up(card: _Card, lost: dict[tuple[str, Stream], int], found: Audit) -> None:
    for uplink in sorted({*card.waiting, *(uplink for uplink, _ in lost)}):
        mine = card.waiting.get(uplink, {})
        for stream in sorted({*mine, *(stream for name, stream in lost if name == uplink)}):
            count = sum(end - start for start, end in mine.get(stream, ()))
            gone = lost.get((uplink, stream), 0)
            named = stream[0] != "?"
            line = Line(uplink, *stream, card.highest.get(stream, 0) if named else gone, count, gone)
            found.lines.append(line)
            if line.delivered < 0:
                found.problems.append(
                    f"{uplink}, {line.stream}, epoch {line.epoch}: {line.waiting} waiting and {line.lost} in the "
                    f"ledger are more than the {line.taken_in} that were taken in"
                )


def _damaged_aside(card: Inspection) -> list[tuple[int, int]]:
    before = len(card.damaged)
    card.quarantined()
    return card.damaged[before:]


def _name(one: int) -> str:
    """Write an id as epoch and place within it."""
    return f"{one >> EPOCH_SHIFT}:{one & (1 << EPOCH_SHIFT) - 1}"
