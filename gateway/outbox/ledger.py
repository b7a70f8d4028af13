"""The ledger as it is in memory: what was given up and is not on the card yet, or all of it where there is no card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.reading import Reading

LENGTH = 1000
"""Entries in memory; beyond that older ones of one kind are taken together."""
PARTS = 10
"""Entries that one loss in a stream becomes at most, where what was lost has gaps."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Readings of one stream that one uplink will never deliver: a row of the ledger. Times are UTC seconds."""

    uplink: str
    stream: str
    epoch: int
    first_seq: int
    last_seq: int
    first_time: float
    last_time: float
    count: int
    reason: str

    @property
    def kind(self) -> tuple[str, str, int, str]:
        """What entries that can be taken together have in common."""
        return self.uplink, self.stream, self.epoch, self.reason

    @property
    def is_sparse(self) -> bool:
        """Whether it is known how many were lost from the first to the last, and that these are not all."""
        return 0 < self.count < self.last_seq - self.first_seq + 1

    def goes_on(self, other: Loss) -> bool:
        """Say whether `other`, of the same kind and entered later, is the continuation of this one.

        After a sparse one it begins within it, or is sparse as well and begins no farther behind it than the lost ones
        within are apart; otherwise, right behind it. Never before its first: that is what an entry is known by.
        """
        if not self.count or not other.count:
            return False
        if not self.is_sparse:
            return not other.is_sparse and other.first_seq == self.last_seq + 1
        apart = (self.last_seq - self.first_seq) // self.count + 1 if other.is_sparse else 0
        return self.first_seq <= other.first_seq <= self.last_seq + apart

    def plus(self, other: Loss) -> Loss:
        """Return this one and another of its kind as one."""
        return replace(
            self,
            first_seq=min(self.first_seq, other.first_seq),
            last_seq=max(self.last_seq, other.last_seq),
            first_time=min(self.first_time, other.first_time),
            last_time=max(self.last_time, other.last_time),
            count=self.count + other.count,
        )


class Ledger:
    """Losses in the order in which they happened; one that continues an earlier one of its kind makes that longer."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.on_enter: Callable[[Loss], None] = nobody
        """Called with each loss, once, from the middle of what enters it."""
        self._last: dict[_Place, int] = {}  # index of the last one

    def enter(self, loss: Loss) -> None:
        """Add a loss."""
        self._add(loss)
        self.on_enter(loss)

    def take(self) -> list[Loss]:
        """Return all losses, and begin anew."""
        losses, self.losses = self.losses, []
        self._last = {}
        return losses

    def restore(self, losses: Iterable[Loss]) -> None:
        """Put back what was taken."""
        for loss in [*losses, *self.take()]:
            self._add(loss)

    def _add(self, loss: Loss) -> None:
        for is_sparse in (True, False):
            at = self._last.get((loss.kind, is_sparse))
            if at is not None and self.losses[at].goes_on(loss):
                self.losses[at] = self.losses[at].plus(loss)
                return
        if len(self.losses) >= LENGTH:
            self._shorten()
        self._last[loss.kind, loss.is_sparse] = len(self.losses)
        self.losses.append(loss)

    def _shorten(self) -> None:
        """Take the older half together by kind: how many they were stays right, where the gaps were is forgotten."""
        losses = self.take()
        half = len(losses) // 2
        older: dict[tuple[str, str, int, str], Loss] = {}
        for loss in losses[:half]:
            before = older.get(loss.kind)
            older[loss.kind] = loss if before is None else before.plus(loss)
        self.losses = [*older.values(), *losses[half:]]
        self._last = {(loss.kind, loss.is_sparse): at for at, loss in enumerate(self.losses)}


_Place = tuple[tuple[str, str, int, str], bool]
"""The kind of an entry, and whether it is sparse."""


def entries(
    uplink: str, readings: Iterable[Reading], reason: str, wall: Callable[[Reading], float], level: int = 1
) -> Iterator[Loss]:
    """Yield what the ledger says when `uplink` will never deliver these.

    Of each stream, where they have gaps, an entry for each part if these are few. `level`: before, only one of so many
    was left, so that this is how far apart they may be without a gap; those between are in the ledger already.
    """
    streams: dict[tuple[str, int], list[Reading]] = {}
    for reading in readings:
        streams.setdefault((reading.stream, reading.epoch), []).append(reading)
    for (stream, epoch), lost in streams.items():
        lost.sort(key=lambda reading: reading.seq)
        parts = _parts(lost, level)
        for part in parts if len(parts) <= PARTS else [lost]:
            first, last = part[0], part[-1]
            first_seq = max(1, first.seq - level + 1)
            yield Loss(uplink, stream, epoch, first_seq, last.seq, wall(first), wall(last), len(part), reason)


def _parts(readings: Sequence[Reading], level: int) -> list[list[Reading]]:
    """Split readings of one stream where their seq has a gap."""
    parts: list[list[Reading]] = []
    end = -1  # beyond it, there is a gap
    for reading in readings:
        if not parts or reading.seq > end:
            parts.append([])
        parts[-1].append(reading)
        end = reading.seq + level
    return parts


def nobody(_: Loss) -> None:
    """Be told in place of somebody who is not there."""
