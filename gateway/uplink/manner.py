"""How an uplink sends, whichever broker it is linked to."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.uplink.pace import Pace


@dataclass(frozen=True, slots=True)
class Manner:
    """The defaults: oldest first, each reading a message, and as fast as a broker takes them."""

    live_first: bool = False
    """What is taken in while there is a link goes before what waited already."""
    batch: int | None = None
    """Readings of one stream that go as one message, at most; None: each is a message as it is."""
    pace: Pace = field(default_factory=Pace)
    """How fast, over all links."""
