"""The durable log between devices or programs and uplinks, with its tail in memory. The only room that knows SQL."""

from gateway.outbox.claims import Account
from gateway.outbox.errors import OutboxError, OutboxFull, OutboxInUse
from gateway.outbox.feed import Feed
from gateway.outbox.follower import SPOILED
from gateway.outbox.ledger import Loss
from gateway.outbox.outbox import Outbox
from gateway.outbox.quarantine import Quarantined

__all__ = ["SPOILED", "Account", "Feed", "Loss", "Outbox", "OutboxError", "OutboxFull", "OutboxInUse", "Quarantined"]
