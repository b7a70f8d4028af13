"""Which message is it on which brokers hang up? A pure decision over the links that were lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

ELSEWHERE = frozenset({0x89, 0x8B, 0x8D, 0x8E, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0})
"""Codes of DISCONNECT that speak of the broker, or of this client, and of no message."""
CALM = (0.2, 5.0)
"""Seconds that a link has to hold, at least and at most, before a suspect goes out on it alone."""
DOUBTFUL = 2
"""Times that a message has to be alone in flight, where brokers may go away by themselves."""


class Suspicion:
    """Isolates a poisonous message within three losses, and lets everything else pass.

    A first loss makes suspects of all that was in flight. On the next link they go out in a window that grows with
    each acknowledgement, as of one message; what is in flight at a second loss is suspected more, and goes out one by
    one. The suspect that is alone in flight when the broker hangs up once more is the one. An acknowledgement clears a
    suspect; when none is left, the window is the usual one again.

    Links also end for other reasons. So, before a suspect goes out alone, a link has to hold without it for longer
    than the one before has lived with it: if it does not, it was no message. And where several brokers hung up, or one
    could not be reached in between, to be alone once is not enough.
    """

    def __init__(self) -> None:
        self._suspects: set[int] = set()
        self._losses = 0
        self._grown = 1
        self._calm = 0.0
        self._alone = 0  # losses at which one suspect was alone in flight
        self._brokers: set[int] = set()  # that hung up
        self._doubtful = False

    @property
    def aroused(self) -> bool:
        """Whether anything is suspected."""
        return self._losses > 0

    @property
    def hardened(self) -> bool:
        """Whether the same messages were in flight at two losses."""
        return self._losses > 1

    @property
    def newest(self) -> int:
        """The highest suspect."""
        return max(self._suspects, default=0)

    @property
    def calm(self) -> float:
        """For how many seconds the next link has to hold before anything goes out."""
        return self._calm if self.hardened else 0.0

    def window(self, usual: int) -> int:
        """Return how many messages may be in flight."""
        if not self._losses:
            return usual
        return 1 if self.hardened else min(usual, self._grown)

    def acknowledged(self, ids: Iterable[int]) -> None:
        """Clear what a broker has taken."""
        if not self._losses:
            return
        taken = list(ids)
        self._grown += len(taken)
        self._suspects.difference_update(taken)
        if not self._suspects:
            self.acquit()

    def forget(self, waits: Callable[[int], bool]) -> None:
        """Suspect nothing any more that does not wait to be delivered: it has found another end."""
        self._suspects = {one for one in self._suspects if waits(one)}
        if not self._suspects:
            self.acquit()

    def unreachable(self, broker: int) -> None:
        """Take note that a broker could not be reached: if it had hung up before, it may have been about to go away."""
        self._doubtful |= broker in self._brokers

    def acquit(self) -> None:
        """Suspect nothing: links are lost for other reasons."""
        self._suspects = set()
        self._brokers = set()
        self._losses = self._alone = 0
        self._doubtful = False

    def lost(self, in_flight: Iterable[int], lived: float, broker: int = 0) -> int | None:
        """Take note that a broker hung up after `lived` seconds; return the poisonous message, once it is certain."""
        victims = set(in_flight)
        common = victims & self._suspects
        if not victims:
            self.acquit()
            return None
        if not common:
            self.acquit()
            self._suspects = victims
        elif self.hardened and len(victims) == 1:
            self._alone += 1
            if self._alone >= (DOUBTFUL if self._doubtful or self._brokers != {broker} else 1):
                self.acquit()
                return victims.pop()
        else:
            self._suspects = common
        self._brokers.add(broker)
        self._losses += 1
        self._grown = 1
        self._calm = max(CALM[0], min(CALM[1], 2 * lived))
        return None
