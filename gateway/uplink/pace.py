"""How fast messages may go to a broker with a rate: token buckets over a given time."""

from __future__ import annotations

import sys

_BURST = 0.1  # of a second's worth may go at once; over the second, the rest
_SLIP = 1e-6  # what adding up fractions may lose of a token


class Pace:
    """Keeps to so many messages and so many bytes a second; None is no limit. Times are seconds of any one clock.

    In no interval of a second or longer go more messages than the rate allows; below ten a second, in none of so long
    that it allows ten. The size of a message is known only once it is sent, so bytes may be exceeded by one allowance,
    which is then waited for.
    """

    def __init__(self, messages_per_second: float | None = None, bytes_per_second: float | None = None) -> None:
        self._messages = None if messages_per_second is None else _Bucket(messages_per_second)
        self._bytes = None if bytes_per_second is None else _Bucket(bytes_per_second)
        self._size = 1.0  # bytes of a message, as sent last

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self._messages is not None or self._bytes is not None

    def allowance(self, now: float) -> int:
        """Return how many messages may be sent at `now`."""
        count = sys.maxsize if self._messages is None else int(self._messages.level(now) + _SLIP)
        if self._bytes is not None and count:
            left = self._bytes.level(now)
            count = 0 if left <= 0 else min(count, max(1, int(left / self._size)))
        return count

    def spent(self, count: int, size: int, now: float) -> None:
        """Take note that so many messages of so many bytes together were sent at `now`."""
        if not count:
            return
        self._size = max(1.0, size / count)
        if self._messages is not None:
            self._messages.take(count, now)
        if self._bytes is not None:
            self._bytes.take(size, now)

    def wait(self, now: float) -> float:
        """Return the seconds until a message may be sent; 0.0: at once."""
        if self.allowance(now):
            return 0.0
        messages = 0.0 if self._messages is None else self._messages.wait(1.0, now)
        return max(messages, 0.0 if self._bytes is None else self._bytes.wait(1.0, now))


class _Bucket:
    def __init__(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError(f"the rate must be more than 0 per second, not {rate:g}")
        self._burst = max(1.0, rate * _BURST)  # at least one whole message, which takes a slow rate its time
        self._refill = rate * (1 - _BURST)
        self._level = self._burst
        self._at: float | None = None

    def level(self, now: float) -> float:
        """Return what may be taken; less than nothing after more was taken."""
        if self._at is None or now > self._at:
            passed = 0.0 if self._at is None else now - self._at
            self._level = min(self._burst, self._level + self._refill * passed)
            self._at = now
        return self._level

    def take(self, count: float, now: float) -> None:
        self._level = self.level(now) - count

    def wait(self, level: float, now: float) -> float:
        """Return the seconds until there is so much."""
        return max(0.0, (level - self.level(now)) / self._refill)
