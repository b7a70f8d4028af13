"""What was sent and has not come to its end: packet identifiers, tokens, phases of QoS 2, and the age of the oldest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

NOBODY = -1  # the token of a message whose acknowledgement nobody asks for
SPAN = 65_000  # so many packet identifiers are functions of the token, where messages are numbered
APART = 1 << 61  # tokens from here on are never numbered
_LAST_ID = 0xFFFF


class Aged:
    """Packet identifiers in order of sending, each with its token, which all wait for the same kind of answer.

    Times are kept for groups of messages and not for each: where at least `grain` seconds have passed since the group
    began, a new group does, and a negative identifier stands between them. So the age of the oldest message is known to
    `grain` seconds, never too young, for next to nothing.
    """

    def __init__(self, grain: float) -> None:
        self._grain = grain
        self._tokens: dict[int, int] = {}
        self._began: dict[int, float] = {}  # of each group, under its negative identifier
        self._newest_group = float("-inf")
        self._groups = 0

    def __len__(self) -> int:
        return len(self._tokens) - len(self._began)

    def __contains__(self, identifier: int) -> bool:
        return identifier in self._tokens

    @property
    def tokens(self) -> list[int]:
        """Return the tokens in order of sending, without those that nobody asks for."""
        return [token for token in self._tokens.values() if token >= 0]

    def none_of(self, identifiers: Sequence[int]) -> bool:
        """Return whether none of these is here."""
        return not self._tokens or self._tokens.keys().isdisjoint(identifiers)

    def add(self, identifiers: Iterable[int], tokens: Iterable[int], now: float) -> None:
        """Remember what is on its way since `now`."""
        if now - self._newest_group >= self._grain:
            self._groups -= 1
            self._tokens[self._groups] = NOBODY
            self._began[self._groups] = self._newest_group = now
        self._tokens.update(zip(identifiers, tokens, strict=True))

    def pop(self, identifiers: Iterable[int]) -> list[int]:
        """Forget these and return their tokens. Those that are not here are passed over."""
        return [token for token in map(self._tokens.pop, identifiers, repeat(NOBODY)) if token >= 0]

    def oldest(self) -> float | None:
        """Return when the oldest was sent, at most `grain` seconds too early; None if nothing is here."""
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


class InFlight:
    """The messages without an end, by what is awaited next, and the packet identifiers that are free.

    Where messages are `numbered`, the identifier is a function of the token, so that it is the same on the next
    connection and after a restart; what has no such token takes one of the identifiers above `SPAN`.
    """

    def __init__(self, grain: float = 0.1, *, numbered: bool = False) -> None:
        self.grain = grain
        self.downgraded = False  # the broker has answered a QoS 2 message with PUBACK
        self.once = Aged(grain)  # QoS 1: PUBACK comes next
        self.twice = Aged(grain)  # QoS 2: PUBREC comes next
        self.recorded: dict[int, int] = {}  # QoS 2: token -> identifier; the owner releases it next
        self.completing = Aged(grain)  # QoS 2: PUBCOMP comes next
        self._numbered = numbered
        self._taken: set[int] = set()  # identifiers of SUBSCRIBE and the like, and of `recorded` and `completing`
        self._first_id = SPAN + 1 if numbered else 1
        self._next = self._first_id

    def __len__(self) -> int:
        return len(self.once) + len(self.twice) + len(self.recorded) + len(self.completing)

    @property
    def tokens(self) -> list[int]:
        """Return the tokens without an end, oldest phase first, each in order of sending."""
        return self.completing.tokens + list(self.recorded) + self.twice.tokens + self.once.tokens

    # -- identifiers

    def _free(self, identifiers: Sequence[int]) -> bool:
        if self.twice or self._taken:
            return (
                self.twice.none_of(identifiers)
                and self._taken.isdisjoint(identifiers)
                and self.once.none_of(identifiers)
            )
        return self.once.none_of(identifiers)

    def identifiers(self, count: int) -> Sequence[int]:
        """Return the next `count` free identifiers that are no functions of a token. Raises ValueError if too few."""
        first = self._next
        if first + count <= _LAST_ID:
            wanted = range(first, first + count)
            if self._free(wanted):
                self._next = first + count
                return wanted
        found: list[int] = []
        candidate = first
        for _ in range(self._first_id, _LAST_ID + 1):  # once around
            if len(found) == count:
                break
            if self._free((candidate,)):
                found.append(candidate)
            candidate = candidate + 1 if candidate < _LAST_ID else self._first_id
        if len(found) < count:
            raise ValueError(f"{count} messages are more than there are free packet identifiers")
        self._next = candidate
        return found

    def assign(self, tokens: Sequence[int]) -> Sequence[int]:
        """Return a free identifier for each token. Raises ValueError when there is none."""
        if not self._numbered:
            return self.identifiers(len(tokens))
        if tokens and min(tokens) >= 0 and max(tokens) < APART:
            found = [1 + token % SPAN for token in tokens]
        else:
            others = iter(self.identifiers(sum(not 0 <= token < APART for token in tokens)))
            found = [1 + token % SPAN if 0 <= token < APART else next(others) for token in tokens]
        if len(set(found)) < len(found) or not self._free(found):
            raise ValueError("the packet identifier of a numbered message is still in flight")
        return found

    def fitting(self, tokens: Sequence[int]) -> int:
        """Return how many of these tokens, from the first on, can have an identifier now."""
        if not self._numbered:
            return min(len(tokens), _LAST_ID - len(self.once) - len(self.twice) - len(self._taken))
        try:
            self.assign(tokens)
        except ValueError:
            # Halve it: whatever is true of some first ones is true of fewer.
            low, high = 0, len(tokens)
            while high - low > 1:
                middle = (low + high) // 2
                try:
                    self.assign(tokens[:middle])
                except ValueError:
                    high = middle
                else:
                    low = middle
            return low
        return len(tokens)

    def reserve(self) -> int:
        """Take one identifier for a packet that is no message, until `give_back`."""
        (identifier,) = self.identifiers(1)
        self._taken.add(identifier)
        return identifier

    def give_back(self, identifier: int) -> None:
        """Give back an identifier that was reserved."""
        self._taken.discard(identifier)

    # -- phases

    def sent(self, identifiers: Sequence[int], tokens: Iterable[int], now: float, qos: int = 1) -> None:
        """Remember messages that are on their way since `now`."""
        (self.once if qos == 1 else self.twice).add(identifiers, tokens, now)

    def acknowledged(self, identifiers: Sequence[int]) -> list[int]:
        """Take PUBACKs, and return the tokens that have their end. Identifiers that await none are passed over."""
        tokens = self.once.pop(identifiers)
        if self.twice:
            # RabbitMQ answers QoS 2 as it does QoS 1; then that is what there is.
            answered = [one for one in identifiers if one in self.twice]
            if answered:
                self.downgraded = True
                tokens += self.twice.pop(answered)
        return tokens

    def refused(self, identifier: int) -> list[int]:
        """Take a refusal of either kind, and return the token, if anybody asks for it."""
        return self.once.pop((identifier,)) or self.twice.pop((identifier,))

    def record(self, identifier: int, now: float) -> tuple[int, bool]:
        """Take a PUBREC, and return the token that was recorded now, else -1, and whether PUBREL is owed at once.

        Raises KeyError for an identifier that is nothing in flight at QoS 2.
        """
        if identifier in self.twice:
            self._taken.add(identifier)
            for token in self.twice.pop((identifier,)):
                self.recorded[token] = identifier
                return token, False
            self.completing.add((identifier,), (NOBODY,), now)  # nobody would release it
            return NOBODY, True
        if identifier in self.completing:
            return NOBODY, True
        if identifier in self._taken:
            return NOBODY, False  # once more for one that the owner has not released yet
        raise KeyError(identifier)

    def release(self, tokens: Iterable[int], now: float) -> list[int]:
        """Let recorded messages go on, and return their identifiers. Tokens that are not recorded are passed over."""
        recorded = self.recorded
        released = [token for token in tokens if token in recorded]
        identifiers = [recorded.pop(token) for token in released]
        if identifiers:
            self.completing.add(identifiers, released, now)
        return identifiers

    def resume(self, tokens: Iterable[int], now: float) -> list[int]:
        """Take over messages that were released in an earlier connection, and return their identifiers.

        Those that were taken over already are passed over. Raises ValueError unless the messages are numbered, and if
        one of their identifiers is in flight.
        """
        known = set(self.completing.tokens)
        tokens = [token for token in tokens if token not in known]
        if not self._numbered or not all(0 <= token < APART for token in tokens):
            raise ValueError("only numbered messages are known again after a connection")
        identifiers = list(self.assign(tokens))
        if identifiers:
            self._taken.update(identifiers)
            self.completing.add(identifiers, tokens, now)
        return identifiers

    def completed(self, identifiers: Sequence[int]) -> list[int]:
        """Take PUBCOMPs, and return the tokens that have their end. Identifiers that await none are passed over."""
        awaited = [one for one in identifiers if one in self.completing]
        self._taken.difference_update(awaited)
        return self.completing.pop(awaited)

    def oldest(self) -> float | None:
        """Return since when the broker owes the oldest answer, at most `grain` seconds too early; None if it owes none.

        What is recorded is owed by the owner.
        """
        times = [
            time for time in (self.once.oldest(), self.twice.oldest(), self.completing.oldest()) if time is not None
        ]
        return min(times, default=None)
