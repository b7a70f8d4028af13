"""Which message is it on which brokers hang up? A pure decision over the links that were lost."""

from __future__ import annotations

from collections.abc import Iterable


class Suspicion:
    """Isolates a poisonous message within three losses, and lets everything else pass.

    A first loss makes suspects of all that was in flight. On the next link they go out in a window that grows with
    each acknowledgement, as of one message; what is in flight at a second loss is suspected more, and goes out one by
    one. The suspect that is alone in flight when the broker hangs up once more is the one. An acknowledgement clears a
    suspect; when none is left, the window is the usual one again.
    """

    def __init__(self) -> None:
        self._suspects: set[int] = set()
        self._losses = 0
        self._grown = 1

    @property
    def aroused(self) -> bool:
        """Whether anything is suspected."""
        return self._losses > 0

    def window(self, usual: int) -> int:
        """Return how many messages may be in flight."""
        if not self._losses:
            return usual
        return 1 if self._losses > 1 else min(usual, self._grown)

    def acknowledged(self, ids: Iterable[int]) -> None:
        """Clear what a broker has taken."""
        if not self._losses:
            return
        taken = list(ids)
        self._grown += len(taken)
        newest = max(self._suspects)
        self._suspects.difference_update(taken)
        # Oldest first: a suspect that is older than what was taken has found another end.
        if not self._suspects or max(taken, default=0) > newest:
            self._losses = 0

    def lost(self, in_flight: Iterable[int]) -> int | None:
        """Take note that a broker hung up with these in flight; return the poisonous one, once it is certain."""
        victims = set(in_flight)
        if not victims:
            return None
        common = victims & self._suspects
        if self._losses > 1 and len(victims) == 1 and common:
            self._losses = 0
            self._suspects = set()
            return victims.pop()
        self._losses = self._losses + 1 if common else 1
        self._suspects = common or victims
        self._grown = 1
        return None
