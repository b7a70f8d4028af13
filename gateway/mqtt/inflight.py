"""What was sent at QoS 1 and is not acknowledged: packet identifiers, tokens, and the age of the oldest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

NOBODY = -1  # the token of a message whose acknowledgement nobody asks for
_LAST_ID = 0xFFFF


class InFlight:
    """Packet identifiers in order of sending, each with its token.

    Times are kept for groups of messages and not for each: where at least `grain` seconds have passed since the group
    began, a new group does, and a negative identifier stands between them. So the age of the oldest message is known to
    `grain` seconds, never too young, for next to nothing.
    """

    def __init__(self, grain: float = 0.1) -> None:
        self.grain = grain
        self._tokens: dict[int, int] = {}
        self._began: dict[int, float] = {}  # of each group, under its negative identifier
        self._newest_group = float("-inf")
        self._groups = 0
        self._next = 1
        self._reserved: set[int] = set()

    def __len__(self) -> int:
        return len(self._tokens) - len(self._began)

    @property
    def tokens(self) -> list[int]:
        """Return the unacknowledged tokens in order of sending, without those that nobody asks for."""
        return [token for token in self._tokens.values() if token >= 0]

    def identifiers(self, count: int) -> Sequence[int]:
        """Return the next `count` free packet identifiers. Raises ValueError when there are not so many."""
        first, tokens = self._next, self._tokens
        wanted = range(first, first + count)
        if first + count <= _LAST_ID and not self._reserved and tokens.keys().isdisjoint(wanted):
            self._next = first + count
            return wanted
        if count > _LAST_ID - len(self) - len(self._reserved):
            raise ValueError(f"{count} messages are more than there are free packet identifiers")
        found: list[int] = []
        while len(found) < count:
            if self._next not in tokens and self._next not in self._reserved:
                found.append(self._next)
            self._next = self._next % _LAST_ID + 1
        return found

    def reserve(self) -> int:
        """Take one identifier for a packet that is no message, until `release`."""
        (identifier,) = self.identifiers(1)
        self._reserved.add(identifier)
        return identifier

    def release(self, identifier: int) -> None:
        """Give back an identifier that was reserved."""
        self._reserved.discard(identifier)

    def sent(self, identifiers: Sequence[int], tokens: Iterable[int], now: float) -> None:
        """Remember messages that are on their way since `now`."""
        if now - self._newest_group >= self.grain:
            self._groups -= 1
            self._tokens[self._groups] = NOBODY
            self._began[self._groups] = self._newest_group = now
        self._tokens.update(zip(identifiers, tokens, strict=True))

    def acknowledged(self, identifiers: Iterable[int]) -> list[int]:
        """Forget these messages and return their tokens. Identifiers that are not in flight are passed over."""
        return [token for token in map(self._tokens.pop, identifiers, repeat(NOBODY)) if token >= 0]

    def oldest(self) -> float | None:
        """Return when the oldest message was sent, at most `grain` seconds too early; None if all are acknowledged."""
        passed: list[int] = []
        for identifier in self._tokens:
            if identifier > 0:
                break
            passed.append(identifier)
        else:
            self._tokens.clear()
            self._began.clear()
            self._newest_group = float("-inf")
            return None
        current = passed.pop()
        for group in passed:
            del self._tokens[group], self._began[group]
        # The front of a dict is slow to reach again once much has been deleted there, so this is asked by timers only.
        return self._began[current]
