"""The quarantine as it is in memory: what was set aside and is not on the card yet, or all of it without a card."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gateway.reading import Reading


class Quarantined(NamedTuple):
    """A reading that one uplink has set aside: no broker takes it. `time` is when, in UTC seconds."""

    uplink: str
    reading: Reading
    reason: str
    time: float


class Quarantine:
    """Entries in the order in which they came, and, for the card, which of those on it have left."""

    def __init__(self) -> None:
        self.entries: list[Quarantined] = []
        self.gone: list[tuple[str, int]] = []  # (uplink, id)

    def __bool__(self) -> bool:
        """Return whether the card has to be told something."""
        return bool(self.entries or self.gone)

    def copy(self) -> Quarantine:
        """Return another one that holds the same."""
        other = Quarantine()
        other.entries, other.gone = list(self.entries), list(self.gone)
        return other

    def remove(self, entries: Collection[Quarantined]) -> None:
        """Take these out."""
        gone = {(entry.uplink, entry.reading.id) for entry in entries}
        self.entries = [entry for entry in self.entries if (entry.uplink, entry.reading.id) not in gone]
        self.gone += gone

    def take(self) -> tuple[list[Quarantined], list[tuple[str, int]]]:
        """Return what the card has to be told, and begin anew."""
        taken = self.entries, self.gone
        self.entries, self.gone = [], []
        return taken

    def restore(self, entries: list[Quarantined], gone: list[tuple[str, int]]) -> None:
        """Put back what was taken; what has left since stays away, because the card is told in that order."""
        self.entries[:0] = entries
        self.gone[:0] = gone

    def view(self, stored: list[Quarantined]) -> list[Quarantined]:
        """Return what there is, where `stored` is on the card."""
        gone = set(self.gone)
        return [entry for entry in [*stored, *self.entries] if (entry.uplink, entry.reading.id) not in gone]
