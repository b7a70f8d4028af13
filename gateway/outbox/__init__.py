"""The durable log between devices and uplinks, with its tail in memory. The only room that knows SQL."""

from gateway.outbox.feed import Feed
from gateway.outbox.log import Account, Loss
from gateway.outbox.outbox import Outbox
from gateway.outbox.store import OutboxError, OutboxInUse

__all__ = ["Account", "Feed", "Loss", "Outbox", "OutboxError", "OutboxInUse"]
