"""Two clients with one client id throw each other out for ever: a pure decision that finds it out."""

from __future__ import annotations

SESSION_TAKEN_OVER = 0x8E
SOON = 2.0
"""Seconds after CONNACK within which a thrown-out client loses its link."""
OFTEN = 3


class Fight:
    """Watches the links of one client at one broker."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def lost(self, lived: float, reason: int | None, by_broker: bool) -> bool:
        """Take note of a link that lived for `lived` seconds; return whether another client uses the same client id.

        `reason` is the code of the broker's DISCONNECT, if any; `by_broker` whether it hung up.
        """
        if reason == SESSION_TAKEN_OVER:
            return True
        self._in_a_row = self._in_a_row + 1 if by_broker and reason is None and lived < SOON else 0
        return self._in_a_row >= OFTEN

    def kept(self) -> None:
        """Take note that a message was acknowledged on a link that is older than that."""
        self._in_a_row = 0
