"""What passes between the log and the card: what a transaction makes durable, and what is there at the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.outbox.card.salvage import Salvaged
from gateway.outbox.card.thin import Thinning
from gateway.outbox.claims import Claim
from gateway.outbox.ledger import Loss
from gateway.outbox.quarantine import Quarantined
from gateway.reading import Reading


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction makes durable."""

    readings: list[Reading]  # may be empty
    upto: int  # every id below is on the card, or needs not be, when it is done
    claims: dict[str, Claim]
    floor: int  # blocks that end below are acknowledged by all
    losses: list[Loss] = field(default_factory=list)
    aside: list[Quarantined] = field(default_factory=list)
    gone: list[tuple[str, int]] = field(default_factory=list)  # (uplink, id) of what has left the quarantine
    then: list[Callable[[], None]] = field(default_factory=list)  # to be called when it is done
    streams: dict[str, int] = field(default_factory=dict)  # the highest seq of each below `upto`, where it matters
    high: frozenset[str] = frozenset()  # the streams whose readings go before others
    void: bool = False  # there is nothing that the card should know
    thinning: Thinning | None = None  # what else goes, so that there is room
    spent: list[tuple[int, int]] = field(default_factory=list)  # [start, end) of blocks that nobody needs
    forgotten: list[str] = field(default_factory=list)  # uplinks that are no more
    salvaged: Salvaged | None = None  # what a damaged file has known


@dataclass(slots=True)
class State:
    """What the card holds when the log is opened."""

    epoch: int
    stored_end: int = 0  # one past the highest id on the card
    blocks: int = 0
    claims: dict[str, Claim] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    high: list[tuple[int, int]] = field(default_factory=list)  # [start, end) of what is of high priority
    hidden: list[tuple[int, int]] = field(default_factory=list)  # [start, end) of which nothing of that is known yet
    remarks: list[str] = field(default_factory=list)  # what the user should know of how it was found
    losses: list[Loss] = field(default_factory=list)  # what opening it has entered into the ledger
