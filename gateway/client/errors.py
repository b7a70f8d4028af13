"""What can go wrong between a program and its client, in words of the world."""

from __future__ import annotations

from gateway.mqtt import in_words


class ClientError(Exception):
    """Something between a program and its client went wrong."""


class ClientClosed(ClientError, RuntimeError):
    """The client is not open: not yet, not any more, or not in this process."""


class CalledFromCallback(ClientError, RuntimeError):
    """A call that waits was made on the very thread that it would wait for."""


class NotConnected(ClientError, TimeoutError):
    """There was no link with any broker in the time given; the text says why, for each broker."""


class SubscriptionRefused(ClientError, ValueError):
    """The broker does not grant a subscription; `reason` is its code."""

    def __init__(self, filter: str, reason: int) -> None:  # noqa: A002 - MQTT's own word
        super().__init__(f"the broker refuses the subscription to {filter}: {in_words(reason)}")
        self.filter = filter
        self.reason = reason


class NotDelivered(ClientError):
    """A message has not been acknowledged; `outcome` and `reason` are those of its delivery."""

    def __init__(self, outcome: str, reason: str | None) -> None:
        super().__init__(f"the message is {outcome}" + (f": {reason}" if reason else ""))
        self.outcome = outcome
        self.reason = reason
