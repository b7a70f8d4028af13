"""Catching up: how much of a backlog may be in flight beside live readings, by how a broker acknowledges. Pure."""

from __future__ import annotations

from collections.abc import Sequence

START = 16
"""Messages of the backlog that go out at first: a slow broker has dealt with them soon, and a fast one has the window
doubled with every round trip, as TCP begins (RFC 5681, slow start), until it is first too much."""
STEP = 4
"""Readings by which the window grows with a round trip afterwards. Of a broker that takes 100 a second, that is 40 ms
of queue more, which is well below what is noticed; one that takes 50,000 is busy with far less than the window."""
SHRINK = 0.5
"""What is left of the window when it was too much. Additive increase and multiplicative decrease are what converges
to a fair share of what several senders use together, whatever their number: D. Chiu and R. Jain, Analysis of the
Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks, 1989. A half is what TCP takes."""
QUEUE = 0.2
"""Seconds that an acknowledgement may take longer than the shortest of late: readings queue then. Four times what
acknowledgements wait to be read while few are in flight (`gateway.mqtt.doze`), which is no queue, and about what
processes of a busy machine wait for each other. What live readings may have to wait follows from it: see `MEMORY`."""
HICCUP = 2
"""Measurements in a row that are too long before the window shrinks: a single one is a process that had to wait for the
processor, or a broker for its disk. As long as it goes on, the window shrinks with each further pair."""
MEMORY = 10.0
"""Seconds for which the shortest acknowledgement is remembered, once or twice: the way to a broker changes. What is
found too long meanwhile shrinks the window, and with it the queue, so that what is then the shortest is the way's own.
It may still hold some queue; a window that is halved whenever more than `QUEUE` is added to it keeps that at about
`QUEUE`, and so all of it at about twice as much."""
KEPT = 16
"""One in so many messages of the window is kept for live readings, so that they need not wait for a backlog's."""
PAUSE = 0.1
"""Seconds without sending after a refusal for quota; each that follows before anything is taken doubles them."""
WARY = 10.0
"""Seconds after a refusal for quota for which live readings are held to the window as well."""
_NONE = -1


class Catchup:
    """The window of a backlog on one link, in readings. Times are seconds of any one clock.

    One message at a time is measured, from its sending to its acknowledgement, so that each round trip is one step: up
    if the window was full and nothing queues, down if something does. `largest` is the window of all readings together.
    """

    def __init__(self, largest: int, patience: float, batch: int = 1) -> None:
        """`patience`: seconds of nothing but refusals for quota after which the link is worth nothing.

        `batch`: readings that may go as one message.
        """
        self._largest = max(1, largest - max(1, largest // KEPT))
        self._patience = patience
        self._window = min(START * batch, self._largest)
        self._doubling = True
        self._filled = False  # since the last step
        self._long = 0  # how many measurements in a row were too long
        self._token = _NONE  # of the message that is measured
        self._at = 0.0  # when it was sent
        self._shortest = [float("inf"), float("inf")]  # before `_since`, and from then on
        self._since = 0.0
        self._refusals = 0  # for quota, since anything was taken
        self._refused_since = 0.0
        self._until = 0.0  # of the pause
        self._wary_until = 0.0
        self.wary = False
        """Whether `room` has something to say."""

    @property
    def window(self) -> int:
        """How many readings may be in flight when one of the backlog is sent; at least 1."""
        return self._window

    def allowance(self, in_flight: int, *, lumps: bool = False) -> int:
        """Return how many readings of the backlog may be taken when so many, of all kinds, are in flight.

        `lumps`: none until half of the window is free, so that many can go together (the silly window syndrome, RFC
        813).
        """
        free = self._window - in_flight
        return 0 if free <= 0 or (lumps and 2 * free < self._window) else free

    def room(self, room: int, in_flight: int, now: float) -> int:
        """Return how many of `room` messages of any kind may be sent."""
        if now < self._until:
            return 0
        self.wary = now < self._wary_until
        return min(room, max(0, self._window - in_flight)) if self.wary else room

    def wait(self, now: float) -> float:
        """Return the seconds for which nothing may be sent."""
        return max(0.0, self._until - now)

    def sent(self, token: int, in_flight: int, now: float) -> None:
        """Take note that messages were sent, of which this is the last, and of how many readings are in flight now."""
        if in_flight >= self._window:
            self._filled = True
        if self._token == _NONE:
            self._token, self._at = token, now

    def acknowledged(self, tokens: Sequence[int], now: float) -> None:
        """Take note of what the broker has taken."""
        self._refusals = 0
        if self._token in tokens:
            self._token = _NONE
            self._step(now - self._at, now)

    def refused(self, token: int, now: float) -> bool:
        """Take note that a message was refused for quota; return whether that has gone on for too long.

        What was in flight together is refused together, and counts as one refusal.
        """
        if token == self._token:
            self._token = _NONE
        if now < self._until:
            return False
        if not self._refusals:
            self._refused_since = now
        self._window = max(1, int(self._window * SHRINK)) if not self._refusals else 1
        self._doubling = False
        left = self._refused_since + self._patience - now
        self._until = now + min(PAUSE * 2**self._refusals, max(PAUSE, left))
        self._wary_until = self._until + WARY
        self.wary = True
        self._refusals += 1
        return self._refusals > 1 and now - self._refused_since >= self._patience

    def _step(self, latency: float, now: float) -> None:
        if now - self._since >= MEMORY:
            self._shortest = [self._shortest[1], latency]
            self._since = now
        self._shortest[1] = min(self._shortest[1], latency)
        filled, self._filled = self._filled, False
        self._long = self._long + 1 if latency > min(self._shortest) + QUEUE else 0
        if not self._long and filled:
            self._window = min(self._largest, self._window * 2 if self._doubling else self._window + STEP)
        elif self._long and self._long % HICCUP == 0:
            self._window = max(1, int(self._window * SHRINK))
            self._doubling = False
