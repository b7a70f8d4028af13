"""What can be wrong with an outbox."""

from __future__ import annotations


class OutboxError(OSError):
    """The outbox cannot be opened or used."""


class OutboxInUse(OutboxError):
    """Another process has the outbox open."""


class OutboxFull(OutboxError):
    """The outbox may hold no more; the message says which bound it has reached."""
