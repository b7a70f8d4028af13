"""A keeper: where the log is kept, on a card or only in memory. The outbox and its feeds know no more of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.outbox.shelf import Bad, Page


class Keeper(Protocol):
    """Decides when something is written, and what is given up for want of room."""

    commits: int  # transactions of this run

    @property
    def used(self) -> int:
        """How many bytes the outbox takes, where it is kept."""

    @property
    def fault(self) -> str | None:
        """Why nothing can be written now, in the ledger's words; None if it can."""

    @property
    def unwritten(self) -> Mapping[str, int]:
        """How many readings of each stream are lost, once it is closed, because they could not be written."""

    def schedule(self) -> None:
        """Arrange for what has to be done, after something was put in or has met its end. Cheap: called often."""

    def begin(self) -> None:
        """Write now what is not written."""

    def secure(self, then: Callable[[], None]) -> None:
        """Call `then` once all that the log knows now would survive a power cut, as soon as that can be."""

    async def stored(self, one: int) -> None:
        """Return once this id would survive a power cut, or needs not, as soon as that can be."""

    async def read(self, start: int, upto: int, limit: int) -> tuple[Page, list[Bad]]:
        """Read back at least `limit` readings with start <= id < upto; also what is damaged."""

    async def ledger(self) -> list[Loss]:
        """Return every entry of the ledger, oldest first."""

    async def quarantined(self) -> list[Quarantined]:
        """Return what is set aside, oldest first."""

    async def flush(self) -> None:
        """Write all that is not written and not delivered; give up, loudly, when that cannot be."""

    async def alive(self) -> None:
        """Return when it has got through all that it had to do."""

    async def close(self) -> None:
        """Let go of everything."""
