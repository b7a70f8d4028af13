"""The ledger as it is in memory: what was given up and is not on the card yet, or all of it where there is no card."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

LENGTH = 1000
"""Entries in memory; beyond that older ones of one kind are taken together."""


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
    """Losses in the order in which they happened; one that continues the last of its kind makes that one longer."""

    def __init__(self) -> None:
        self.losses: list[Loss] = []
        self.on_enter: Callable[[Loss], None] = nobody
        """Called with each loss, once, from the middle of what enters it."""
        self._last: dict[tuple[str, str, int, str], int] = {}  # kind -> index of the last one

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
        at = self._last.get(loss.kind)
        if at is not None and self.losses[at].last_seq + 1 == loss.first_seq:
            self.losses[at] = self.losses[at].plus(loss)
            return
        if len(self.losses) >= LENGTH:
            self._shorten()
        self._last[loss.kind] = len(self.losses)
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
        self._last = {loss.kind: at for at, loss in enumerate(self.losses)}


def nobody(_: Loss) -> None:
    """Be told in place of somebody who is not there."""
